// Set the chosen theme before the first paint; without a choice the system's theme holds.
(function () {
  var chosen = null;
  try { chosen = localStorage.getItem("custsvc-theme"); } catch (e) { /* storage is off: the system's theme */ }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
  document.documentElement.classList.add("js");
})();
