// The studio's page: what is chosen, which painting is shown, and what becomes of it.

import { PictureView } from "./view.js";

const at = (id) => document.getElementById(id);
const view = new PictureView(at("view"));
const ENDED = ["done", "stopped", "failed"];
const FILES = ["painting.png", "strokes.svg", "strokes.json", "painting.mp4"];
const EVERY = 400; // milliseconds between looks
let file = null, job = null, seen = -1, timer = null;

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, headers: { "x-studio": "1" } });
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error ?? `the studio answered ${answer.status}`);
  return found;
}

function say(text, wrong = false) {
  at("state").textContent = text;
  at("state").classList.toggle("wrong", wrong);
}

// -- what is chosen ---------------------------------------------------------------------------------------------

for (const id of ["strokes", "seconds", "palette"]) {
  const shown = () => {
    const value = at(id).value;
    at(`${id}-shown`).value = value !== "0" ? value : id === "palette" ? "all" : "as it takes";
  };
  at(id).addEventListener("input", shown);
  shown();
}

async function choose(chosen) {
  if (!chosen) return;
  try {
    view.begin(await createImageBitmap(chosen));
  } catch {
    say("This is no picture that a browser can show.", true);
    return;
  }
  file = chosen;
  at("paint").disabled = false;
  at("unmask").hidden = true;
  say(`${chosen.name}: ready.`);
}

at("file").addEventListener("change", (event) => choose(event.target.files[0]));
at("view").addEventListener("dragover", (event) => {
  event.preventDefault();
  at("view").classList.add("over");
});
at("view").addEventListener("dragleave", () => at("view").classList.remove("over"));
at("view").addEventListener("drop", (event) => {
  event.preventDefault();
  at("view").classList.remove("over");
  choose(event.dataTransfer.files[0]);
});
at("masking").addEventListener("change", (event) => {
  view.masking = event.target.checked;
  view.mask.hidden = false;
});
at("view").addEventListener("masked", () => { at("unmask").hidden = false; });
at("unmask").addEventListener("click", () => { view.forgetMask(); at("unmask").hidden = true; });

function options() {
  const found = {
    strokes: Number(at("strokes").value),
    seconds: Number(at("seconds").value),
    long_side: Number(at("long_side").value),
    palette: at("palette").value,
  };
  if (at("brush").value) found.brush = at("brush").value;
  if (at("canvas").value !== "#000000") found.canvas = at("canvas").value;
  const more = new URLSearchParams(location.search);
  if (more.has("steps")) Object.assign(found, { refine_steps: Number(more.get("steps")), seconds: 0 });
  return found;
}

// -- the painting -----------------------------------------------------------------------------------------------

at("controls").addEventListener("submit", async (event) => {
  event.preventDefault();
  try {
    const query = new URLSearchParams({ options: JSON.stringify(options()) });
    if (view.masked) {
      query.set("mask", (await ask("/masks", { method: "POST", body: await view.maskFile() })).mask);
    }
    job = await ask(`/jobs?${query}`, { method: "POST", body: file });
  } catch (error) {
    say(error.message, true);
    return;
  }
  seen = -1;
  at("files").replaceChildren();
  at("masking").checked = view.masking = false;
  view.mask.hidden = true;
  clearTimeout(timer);
  look();
});

async function look() {
  try {
    job = await ask(`/jobs/${job.name}`);
  } catch (error) {
    say(error.message, true);
    return;
  }
  const ended = ENDED.includes(job.state);
  at("pause").disabled = !["painting", "paused"].includes(job.state);
  at("pause").textContent = job.state === "paused" ? "Go on" : "Pause";
  at("stop").disabled = ended;
  say(job.said || `${job.state}: ${job.strokes} of ${job.wanted} strokes, ${job.psnr} dB, ${job.left} s left`, !!job.said);
  const back = at("back"), atEnd = back.value === back.max;
  back.max = job.strokes;
  back.disabled = job.strokes === 0;
  if (atEnd) back.value = back.max;
  at("back-shown").value = back.value;
  if (job.version !== seen && atEnd) await draw(null);
  seen = job.version;
  if (ended) {
    if (job.state !== "failed") offer();
  } else {
    timer = setTimeout(look, EVERY);
  }
}

async function draw(strokes) {
  const side = Math.min(2048, Math.max(job.width, job.height));
  const query = strokes === null ? `side=${side}` : `side=${side}&strokes=${strokes}`;
  const answer = await fetch(`/jobs/${job.name}/picture?${query}`);
  if (answer.status === 200) view.show(await createImageBitmap(await answer.blob()));
}

function offer() {
  const back = at("back"), part = back.value === back.max ? "" : `?strokes=${back.value}`;
  at("files").replaceChildren(...FILES.map((name) => {
    const link = document.createElement("a");
    Object.assign(link, { href: `/jobs/${job.name}/files/${name}${part}`, download: name, textContent: name });
    return link;
  }));
}

at("pause").addEventListener("click", async () => {
  await ask(`/jobs/${job.name}/${job.state === "paused" ? "go" : "pause"}`, { method: "POST" });
});
at("stop").addEventListener("click", async () => { await ask(`/jobs/${job.name}/stop`, { method: "POST" }); });
at("back").addEventListener("input", async () => {
  at("back-shown").value = at("back").value;
  await draw(Number(at("back").value));
  if (ENDED.includes(job.state)) offer();
});

document.addEventListener("keydown", (event) => {
  if (event.target.matches?.("input, select, button, a")) return;
  if (event.key === " " && !at("pause").disabled) at("pause").click();
  else if (event.key === "Escape" && !at("stop").disabled) at("stop").click();
  else if (["ArrowLeft", "ArrowRight"].includes(event.key) && !at("back").disabled) {
    at("back").value = Number(at("back").value) + (event.key === "ArrowLeft" ? -1 : 1);
    at("back").dispatchEvent(new Event("input"));
  } else return;
  event.preventDefault();
});
