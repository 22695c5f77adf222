// Dark or light: as the system prefers, unless the user has chosen. A classic script that runs before the page is drawn,
// so that the other theme does not flash. Also marks the kiosk.
(() => {
  const KEY = "andon-theme";
  const root = document.documentElement;
  const query = new URLSearchParams(location.search);
  const remembered = () => {
    try {
      return localStorage.getItem(KEY);
    } catch {
      return null; // storage may be switched off
    }
  };
  const isDark = () =>
    root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;

  const chosen = query.get("theme") ?? remembered();
  if (chosen === "dark" || chosen === "light") root.dataset.theme = chosen;
  if (query.has("kiosk")) root.dataset.kiosk = "";

  document.addEventListener("DOMContentLoaded", () => {
    const button = document.getElementById("theme");
    if (!button) return;
    const label = () => (button.textContent = isDark() ? "Light" : "Dark");
    label();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
    button.addEventListener("click", () => {
      root.dataset.theme = isDark() ? "light" : "dark";
      label();
      try {
        localStorage.setItem(KEY, root.dataset.theme);
      } catch {
        // Then the choice lasts only as long as the page.
      }
    });
  });
})();
