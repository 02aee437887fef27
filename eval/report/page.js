"use strict";
// Trajectories of a sample: run, sample and call are the state; show() draws it. Texts enter as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const view = document.getElementById("view");
  if (!view || !data.length) return;
  const at = (id) => document.getElementById(id);
  const state = { run: 0, sample: 0, call: 0, followed: null, timer: null };
  let panels = [];

  const make = (tag, kind, text) => {
    const element = document.createElement(tag);
    if (kind) element.className = kind;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const makeSvg = (tag, values) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(values)) element.setAttribute(name, value);
    return element;
  };
  const bin = (margin) => (margin < 0.5 ? 0 : margin < 1 ? 1 : margin < 2 ? 2 : margin < 4 ? 3 : 4);
  const run = () => data[state.run];
  const sample = () => run().samples[state.sample];
  const last = () => Math.max(...sample().methods.map((method) => method.calls.length)) - 1;
  const callOf = (method) => Math.min(state.call, method.calls.length - 1);
  const tokenText = (id) => (id < 0 ? "" : String(run().token_texts[id] ?? "?").replace(/\n/g, "⏎"));
  const cellText = (id) => {
    const text = tokenText(id);
    return text.startsWith(" ") ? text.slice(1) || "␣" : text && id >= 0 && !/^[<⏎.,;:!?'’)]/.test(text) ? "-" + text : text;
  };
  // Call from which on the token at a position is the final one.
  const settled = (method, i) => {
    const final = method.calls[method.calls.length - 1].ids[i];
    let k = method.calls.length - 1;
    while (k > 0 && method.calls[k - 1].ids[i] === final) k -= 1;
    return k;
  };
  const flipped = (method, k, i) => k > 0 && method.calls[k - 1].ids[i] >= 0 && method.calls[k].ids[i] !== method.calls[k - 1].ids[i];

  function options(select, names, chosen) {
    select.replaceChildren(...names.map((name, i) => new Option(name, i, false, i === chosen)));
  }

  // All calls of a method in one picture: calls from left to right, positions from top to bottom.
  function map(method) {
    const [calls, n] = [method.calls.length, method.calls[0].ids.length];
    const svg = makeSvg("svg", { viewBox: `0 0 ${calls} ${n}`, preserveAspectRatio: "none", class: "map", role: "img" });
    svg.setAttribute("aria-label", "margin of every position at every call; click to go to a call");
    svg.style.height = "7rem";
    method.calls.forEach((call, k) => {
      for (let i = 0, begin = 0; i < n; i += 1) {
        const kind = (j) => (call.ids[j] < 0 || method.is_prompt[j] ? "none" : "b" + bin(call.margin[j]));
        if (i === n - 1 || kind(i + 1) !== kind(i)) {
          svg.append(makeSvg("rect", { x: k, y: begin, width: 1, height: i + 1 - begin, class: kind(i) }));
          begin = i + 1;
        }
      }
    });
    const now = makeSvg("rect", { y: 0, width: 1, height: n, class: "now" });
    svg.append(now);
    svg.addEventListener("click", (event) => {
      const box = svg.getBoundingClientRect();
      go(Math.floor(((event.clientX - box.left) / box.width) * calls));
    });
    return [svg, now];
  }

  function panel(method) {
    const box = make("article", "panel");
    const counts = make("p", "counts");
    const toks = make("div", "toks");
    const cells = method.calls[0].ids.map((_, i) => {
      const cell = make("span", "tok");
      cell.dataset.i = i;
      return cell;
    });
    toks.append(...cells);
    const [picture, now] = map(method);
    const details = make("details");
    details.append(make("summary", "", "Text and protocol"), make("p", "", method.text || "(an empty text)"));
    if (method.hidden_positions) details.append(make("p", "", `${method.hidden_positions} more positions are in the record.`));
    const replay = make("p");
    replay.append("Replay: ", make("code", "", method.replay_command));
    details.append(make("p", "", method.protocol), replay);
    box.append(make("h3", "", method.title), make("p", "description", method.description + (method.cci === null ? "" : ` · CCI ${method.cci.toFixed(2)}`)), counts, toks, picture, details);
    const settledAt = method.calls[0].ids.map((_, i) => settled(method, i));
    return { method, box, counts, cells, now, settledAt };
  }

  function build() {
    options(at("run"), data.map((each) => `${each.name} (${each.kind})`), state.run);
    options(at("sample"), run().samples.map((each) => each.name), state.sample);
    panels = sample().methods.map(panel);
    at("panels").replaceChildren(...panels.map((each) => each.box));
    at("slide").max = last();
    at("is_prompt").hidden = !sample().methods.some((method) => method.is_prompt.includes(1));
    show();
  }

  function show() {
    at("slide").value = state.call;
    at("where").textContent = `call ${state.call + 1} of ${last() + 1}`;
    for (const { method, counts, cells, now, settledAt } of panels) {
      const k = callOf(method);
      const call = method.calls[k];
      let flips = 0;
      cells.forEach((cell, i) => {
        const flip = !method.is_prompt[i] && flipped(method, k, i);
        flips += flip;
        const kind = method.is_prompt[i] ? "prompt" : call.ids[i] < 0 ? "none" : "b" + bin(call.margin[i]);
        cell.className = `tok ${kind}${call.committed[i] && !method.is_prompt[i] ? " committed" : ""}${flip ? " flip" : ""}${state.followed === i ? " same" : ""}`;
        cell.textContent = cellText(call.ids[i]);
      });
      const generated = cells.map((_, i) => i).filter((i) => !method.is_prompt[i]);
      const committed = generated.filter((i) => call.committed[i]).length;
      const numSettled = generated.filter((i) => settledAt[i] <= k && call.ids[i] >= 0).length;
      counts.textContent = `t = ${call.t.toFixed(3)} · ${flips} flipped · ${committed} committed · ${numSettled} of ${generated.length} settled`;
      now.setAttribute("x", k);
    }
    showDetail(state.followed);
  }

  function showDetail(i) {
    if (i === null) {
      at("detail").textContent = "Point at a position, or click it, to follow it.";
      return;
    }
    const lines = panels.map(({ method, settledAt }) => {
      const call = method.calls[callOf(method)];
      if (call.ids[i] === undefined || call.ids[i] < 0) return `${method.title}: no token yet`;
      if (method.is_prompt[i]) return `${method.title}: “${tokenText(call.ids[i]).trim()}” is the prompt`;
      return `${method.title}: “${tokenText(call.ids[i]).trim()}”, margin ${call.margin[i].toFixed(2)} nats, settles at call ${settledAt[i] + 1}`;
    });
    at("detail").textContent = `Position ${i + 1}. ${lines.join(" · ")}`;
  }

  function follow(i) {
    state.followed = i;
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
    state.followed = null;
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
    if (event.target.closest("select, input, .wide")) return; // these use the arrow keys themselves
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
      ...(state.followed !== null && { Escape: () => follow(null) }),
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
  at("forward").addEventListener("click", () => go(state.call + 1));
  at("play").addEventListener("click", play);
  at("panels").addEventListener("mouseover", (event) => showDetail(position(event) ?? state.followed));
  at("panels").addEventListener("mouseleave", () => showDetail(state.followed));
  at("panels").addEventListener("click", (event) => {
    const i = position(event);
    view.focus({ preventScroll: true });
    if (i !== null) follow(state.followed === i ? null : i);
  });
  state.call = Math.floor(last() / 2);
  view.hidden = false;
  build();
})();
