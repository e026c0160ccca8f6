// Before anything is painted: the theme that was chosen here, else that of the system.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("custsvc-theme"); } catch (e) { /* storage is off: the system's theme */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.classList.add("js");
})();
