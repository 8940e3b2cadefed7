// What has changed? One question to the server, again and again, about what can be seen.
//
// distillPulse(element, props, server, trigger, watch, events): `server.beat` answers for places
// (`[data-spot]` anywhere in the page) with their new HTML, and for tabs with a mark; where that is
// another one than before, the event of the tab's name is made.
(() => {
  const BEAT_MS = 1500;
  const LOGIN = "Your login has ended: reload the page and log in again. Training goes on.";
  const AWAY = "The app does not answer. It is asked again; training goes on.";

  const shown = (element) => element !== null && element.getClientRects().length > 0;

  // Makes one tree like another and leaves alike what is alike: a selection, a place scrolled to,
  // a bar on its way, what a reader has unfolded, and what a screen reader has read.
  function renew(old, now) {
    if (old.nodeType !== now.nodeType || old.nodeName !== now.nodeName) return old.replaceWith(now);
    if (old.nodeType !== Node.ELEMENT_NODE) {
      if (old.data !== now.data) old.data = now.data;
      return;
    }
    for (const { name } of [...old.attributes])
      if (!now.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    for (const { name, value } of now.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    renewChildren(old, now);
  }

  function renewChildren(old, now) {
    const before = [...old.childNodes];
    const after = [...now.childNodes];
    before.slice(after.length).forEach((node) => node.remove());
    after.forEach((node, place) =>
      place < before.length ? renew(before[place], node) : old.append(node));
  }

  function renewHtml(element, html) {
    const parsed = document.createElement("template");
    parsed.innerHTML = html;
    renewChildren(element, parsed.content);
  }

  window.distillPulse = (element, props, server, trigger, watch, events) => {
    const notice = element.querySelector("p");
    let marks = {};
    let busy = false;
    let again = false;
    const run = () => (props.value && props.value.run) || "";

    function say(words) {
      if (notice.textContent !== words) notice.textContent = words;
    }

    function question() {
      const spots = {};
      for (const spot of document.querySelectorAll("[data-spot]"))
        if (shown(spot)) spots[spot.dataset.spot] = spot.dataset.mark || "";
      const signals = {};
      for (const name of events)
        if (shown(document.getElementById(`ds-tab-${name}`))) signals[name] = marks[name] || "";
      return { run: run(), spots, signals };
    }

    function take(answer) {
      for (const [name, { mark, html }] of Object.entries(answer.spots)) {
        const spot = document.querySelector(`[data-spot="${name}"]`);
        if (!spot) continue;
        spot.dataset.mark = mark;
        renewHtml(spot, html);
      }
      for (const [name, mark] of Object.entries(answer.signals)) {
        marks[name] = mark;
        trigger(name);
      }
    }

    async function beat() {
      if (!element.isConnected) return clearInterval(timer);
      if (document.hidden) return;
      if (busy) {
        again = true;
        return;
      }
      busy = true;
      try {
        const asked = question();
        const answer = await server.beat(asked);
        say("");
        if (asked.run === run()) take(answer);
        else again = true;
      } catch (error) {
        say(/401|unauthori[sz]ed/i.test(String(error)) ? LOGIN : AWAY);
      } finally {
        busy = false;
      }
      if (again) {
        again = false;
        soon();
      }
    }

    const soon = () => setTimeout(beat, 50);
    const timer = setInterval(beat, BEAT_MS);
    watch("value", soon);
    document.addEventListener("visibilitychange", soon);
    // A tab that is opened, by hand or by the app, is filled at once.
    new MutationObserver((changes) => {
      if (changes.some(({ target }) => target.getAttribute("aria-selected") === "true")) soon();
    }).observe(document.body, { subtree: true, attributeFilter: ["aria-selected"] });
    beat();
  };
})();
