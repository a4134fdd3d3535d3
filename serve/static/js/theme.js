// Runs before the first paint, so that a chosen theme never flashes: "light", "dark" or unset.
(() => {
  try {
    const theme = localStorage.getItem("dg2.theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; the system's choice holds then.
  }
})();
