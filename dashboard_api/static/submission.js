// Watches a submission that is still under way, and loads the page once more when its state has changed.
"use strict";

(() => {
  const FIRST_WAIT = 1000;
  const LONGEST_WAIT = 15000;
  const shown = document.getElementById("state");
  let wait = FIRST_WAIT;

  async function look() {
    try {
      const answer = await fetch(`/api/v1/submissions/${shown.dataset.id}`, { headers: { accept: "application/json" } });
      if (answer.ok && (await answer.json()).state !== shown.dataset.state) {
        location.reload();
        return;
      }
    } catch {
      // The server may be restarting: the next look tells.
    }
    wait = Math.min(wait * 1.4, LONGEST_WAIT);
    setTimeout(look, wait);
  }

  setTimeout(look, wait);
})();
