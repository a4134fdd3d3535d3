// htm bound to preact: templates as tagged strings, compiled once by the browser.
import { h } from "preact";
import htm from "htm";

export const html = htm.bind(h);
