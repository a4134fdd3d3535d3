// The vendored modules, without types.
declare module "htm";
declare module "preact";
declare module "preact/hooks";
declare module "@preact/signals";
