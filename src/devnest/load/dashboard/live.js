// Shows the state that the server sends once a second, and sends what the buttons say. Elements that
// are the same as before stay, so that the page does not jump and nothing loses the focus.
"use strict";

(() => {
  const at = (id) => document.getElementById(id);
  const root = document.documentElement, content = at("content"), number = at("number");
  let figures = {}, moves = 0;

  const watcher = new ResizeObserver((entries) => {
    for (const { target } of entries) {
      if (figures[target.id] && target.clientWidth !== Number(target.dataset.width)) charts.draw(target, figures[target.id]);
    }
  });

  const plotOf = (element) => element?.querySelector?.(":scope > .plot")?.id;

  function replace(old, fresh) {
    if (plotOf(old) && plotOf(old) === plotOf(fresh)) return;
    if (old.isEqualNode(fresh)) return;
    if (old.className === "wide" && fresh.className === "wide") old.replaceChildren(...fresh.children);
    else old.replaceWith(fresh);
  }

  function show(state) {
    document.title = at("title").textContent = state.title;
    at("phase").textContent = state.phase;
    at("said").textContent = "";
    at("vus").hidden = state.vus === null;
    if (state.vus !== null && document.activeElement !== number && !number.dataset.edited) number.value = state.vus;
    const made = document.createElement("template");
    made.innerHTML = state.body;
    const fresh = [...made.content.children], old = [...content.children];
    fresh.forEach((element, index) => (index < old.length ? replace(old[index], element) : content.append(element)));
    for (const element of old.slice(fresh.length)) element.remove();
    figures = state.figures;
    for (const [id, figure] of Object.entries(figures)) {
      charts.draw(at(id), figure);
      watcher.observe(at(id));
    }
    root.dataset.moves = ++moves;
  }

  async function send(path, body) {
    try {
      const answer = await fetch(path, { method: "POST", headers: { "X-Dashboard-Token": document.body.dataset.token }, body });
      at("said").textContent = answer.ok ? "" : (await answer.text()).trim();
      return answer.ok;
    } catch {
      at("said").textContent = "The dashboard does not answer.";
      return false;
    }
  }

  at("stop").addEventListener("click", async () => {
    at("stop").disabled = true;
    if (!(await send("stop"))) at("stop").disabled = false;
  });
  number.addEventListener("input", () => { number.dataset.edited = "yes"; });
  at("vus").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (await send("vus", JSON.stringify({ vus: Number(number.value) }))) delete number.dataset.edited;
  });

  const events = new EventSource("events");
  events.addEventListener("state", (event) => show(JSON.parse(event.data)));
  events.addEventListener("end", () => {
    events.close();
    location.reload();
  });
  events.onerror = () => { at("phase").textContent = "The connection is lost: the run may have ended."; };
})();
