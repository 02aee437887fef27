"use strict";
// The way of a sample: run, sample and call are the state; show() draws it. Texts enter as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const view = document.getElementById("view");
  if (!view || !data.length) return;
  const at = (id) => document.getElementById(id);
  const state = { run: 0, sample: 0, call: 0, held: null, timer: null };
  let panels = [];

  const make = (tag, kind, text) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  };
  const drawn = (tag, values) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(values)) made.setAttribute(name, value);
    return made;
  };
  const bin = (margin) => (margin < 0.5 ? 0 : margin < 1 ? 1 : margin < 2 ? 2 : margin < 4 ? 3 : 4);
  const run = () => data[state.run];
  const sample = () => run().samples[state.sample];
  const last = () => Math.max(...sample().methods.map((way) => way.calls.length)) - 1;
  const callOf = (way) => Math.min(state.call, way.calls.length - 1);
  const piece = (id) => (id < 0 ? "" : String(run().token_texts[id] ?? "?").replace(/\n/g, "⏎"));
  const shown = (id) => {
    const text = piece(id);
    return text.startsWith(" ") ? text.slice(1) || "␣" : text && id >= 0 && !/^[<⏎.,;:!?'’)]/.test(text) ? "-" + text : text;
  };
  // Call from which on the token at a position is the final one.
  const settled = (way, i) => {
    const final = way.calls[way.calls.length - 1].ids[i];
    let k = way.calls.length - 1;
    while (k > 0 && way.calls[k - 1].ids[i] === final) k -= 1;
    return k;
  };
  const flipped = (way, k, i) => k > 0 && way.calls[k - 1].ids[i] >= 0 && way.calls[k].ids[i] !== way.calls[k - 1].ids[i];

  function options(select, names, chosen) {
    select.replaceChildren(...names.map((name, i) => new Option(name, i, false, i === chosen)));
  }

  // Every call of a way in one picture: across the calls, down the positions.
  function map(way, index) {
    const [calls, n] = [way.calls.length, way.calls[0].ids.length];
    const svg = drawn("svg", { viewBox: `0 0 ${calls} ${n}`, preserveAspectRatio: "none", class: "map", role: "img" });
    svg.setAttribute("aria-label", "margin of every position at every call; click to go to a call");
    svg.style.height = "7rem";
    way.calls.forEach((call, k) => {
      for (let i = 0, begin = 0; i < n; i += 1) {
        const kind = (j) => (call.ids[j] < 0 || way.is_prompt[j] ? "none" : "b" + bin(call.margin[j]));
        if (i === n - 1 || kind(i + 1) !== kind(i)) {
          svg.append(drawn("rect", { x: k, y: begin, width: 1, height: i + 1 - begin, class: kind(i) }));
          begin = i + 1;
        }
      }
    });
    const now = drawn("rect", { y: 0, width: 1, height: n, class: "now" });
    svg.append(now);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      go(Math.floor(((event.clientX - box.left) / box.width) * calls));
    });
    return [svg, now];
  }

  function panel(way) {
    const box = make("article", "panel");
    const counts = make("p", "counts");
    const toks = make("div", "toks");
    const cells = way.calls[0].ids.map((_, i) => {
      const cell = make("span", "tok");
      cell.dataset.i = i;
      return cell;
    });
    toks.append(...cells);
    const [picture, now] = map(way);
    const more = make("details");
    more.append(make("summary", "", "Text and protocol"), make("p", "", way.text || "(an empty text)"));
    if (way.hidden_positions) more.append(make("p", "", `${way.hidden_positions} more positions are in the record.`));
    const again = make("p");
    again.append("The same way again: ", make("code", "", way.replay_command));
    more.append(make("p", "", way.protocol), again);
    box.append(make("h3", "", way.title), make("p", "description", way.description + (way.cci === null ? "" : ` · CCI ${way.cci.toFixed(2)}`)), counts, toks, picture, more);
    const when = way.calls[0].ids.map((_, i) => settled(way, i));
    return { way, box, counts, cells, now, when };
  }

  function build() {
    options(at("run"), data.map((each) => `${each.name} (${each.kind})`), state.run);
    options(at("sample"), run().samples.map((each) => each.name), state.sample);
    panels = sample().methods.map(panel);
    at("panels").replaceChildren(...panels.map((each) => each.box));
    at("slide").max = last();
    at("is_prompt").hidden = !sample().methods.some((way) => way.is_prompt.includes(1));
    show();
  }

  function show() {
    at("slide").value = state.call;
    at("where").textContent = `call ${state.call + 1} of ${last() + 1}`;
    for (const { way, counts, cells, now, when } of panels) {
      const k = callOf(way);
      const call = way.calls[k];
      let flips = 0;
      cells.forEach((cell, i) => {
        const flip = !way.is_prompt[i] && flipped(way, k, i);
        flips += flip;
        const kind = way.is_prompt[i] ? "prompt" : call.ids[i] < 0 ? "none" : "b" + bin(call.margin[i]);
        cell.className = `tok ${kind}${call.committed[i] && !way.is_prompt[i] ? " committed" : ""}${flip ? " flip" : ""}${state.held === i ? " same" : ""}`;
        cell.textContent = shown(call.ids[i]);
      });
      const made = cells.map((_, i) => i).filter((i) => !way.is_prompt[i]);
      const committed = made.filter((i) => call.committed[i]).length;
      const still = made.filter((i) => when[i] <= k && call.ids[i] >= 0).length;
      counts.textContent = `t = ${call.t.toFixed(3)} · ${flips} flipped · ${committed} committed · ${still} of ${made.length} settled`;
      now.setAttribute("x", k);
    }
    tell(state.held);
  }

  function tell(i) {
    if (i === null) {
      at("told").textContent = "Point at a position, or click it, to follow it.";
      return;
    }
    const said = panels.map(({ way, when }) => {
      const call = way.calls[callOf(way)];
      if (call.ids[i] === undefined || call.ids[i] < 0) return `${way.title}: no token yet`;
      if (way.is_prompt[i]) return `${way.title}: “${piece(call.ids[i]).trim()}” is the prompt`;
      return `${way.title}: “${piece(call.ids[i]).trim()}”, margin ${call.margin[i].toFixed(2)} nats, settles at call ${when[i] + 1}`;
    });
    at("told").textContent = `Position ${i + 1}. ${said.join(" · ")}`;
  }

  function hold(i) {
    state.held = i;
    show();
  }
  function go(call) {
    state.call = Math.max(0, Math.min(last(), call));
    show();
  }
  function choose(number, which) {
    stop();
    state.run = number;
    state.sample = (which + run().samples.length) % run().samples.length;
    state.held = null;
    state.call = Math.min(state.call, last());
    build();
  }
  function stop() {
    clearInterval(state.timer);
    state.timer = null;
    at("play").textContent = "Play";
  }
  function play() {
    if (state.timer !== null) return stop();
    if (state.call === last()) go(0);
    at("play").textContent = "Stop";
    state.timer = setInterval(() => (state.call < last() ? go(state.call + 1) : stop()), 600);
  }

  function press(event) {
    if (event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    if (event.target.closest("select, input, .wide")) return; // they have arrows of their own
    const inside = view.contains(event.target);
    const moves = {
      ArrowLeft: () => go(state.call - 1),
      ArrowRight: () => go(state.call + 1),
      ...(inside && {
        Home: () => go(0),
        End: () => go(last()),
        ArrowUp: () => choose(state.run, state.sample - 1),
        ArrowDown: () => choose(state.run, state.sample + 1),
      }),
      ...(state.held !== null && { Escape: () => hold(null) }),
    };
    if (!moves[event.key]) return;
    event.preventDefault();
    if (event.key.startsWith("Arrow")) stop();
    moves[event.key]();
  }

  const position = (event) => {
    const cell = event.target.closest("[data-i]");
    return cell ? Number(cell.dataset.i) : null;
  };
  document.addEventListener("keydown", press);
  at("run").addEventListener("change", (event) => choose(Number(event.target.value), 0));
  at("sample").addEventListener("change", (event) => choose(state.run, Number(event.target.value)));
  at("slide").addEventListener("input", (event) => go(Number(event.target.value)));
  at("back").addEventListener("click", () => go(state.call - 1));
  at("on").addEventListener("click", () => go(state.call + 1));
  at("play").addEventListener("click", play);
  at("panels").addEventListener("mouseover", (event) => tell(position(event) ?? state.held));
  at("panels").addEventListener("mouseleave", () => tell(state.held));
  at("panels").addEventListener("click", (event) => {
    const i = position(event);
    view.focus({ preventScroll: true });
    if (i !== null) hold(state.held === i ? null : i);
  });
  state.call = Math.floor(last() / 2);
  view.hidden = false;
  build();
})();
