// The theme's toggles of the navigation have an arrow and no name.
document.addEventListener("DOMContentLoaded", () => {
  for (const summary of document.querySelectorAll("summary")) {
    const link = summary.closest("li")?.querySelector("a");
    if (link && !summary.textContent.trim()) {
      summary.setAttribute("aria-label", `Pages of ${link.textContent.trim()}`);
    }
  }
});
