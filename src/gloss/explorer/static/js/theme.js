// Runs before the first paint, so that a chosen theme never flashes. Not a module: modules run
// later.
(() => {
  try {
    const theme = localStorage.getItem("gloss-theme");
    if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
  } catch {
    // Storage may be forbidden; the system's preference holds then.
  }
})();
