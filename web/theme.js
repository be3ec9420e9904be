// Runs before the first paint, so that a chosen theme never flashes the other one.
(() => {
    let theme = null;
    try {
        theme = localStorage.getItem('internvl.theme');
    } catch {
        // A browser that keeps nothing: its own preference decides.
    }
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme;
})();
