// The page at /: both endpoints, tried from a browser. Everything it asks is what any other client may ask.

const TEXTS = {
  zh: {
    tagline: "中文文本分类与填空",
    task: "任务",
    classify: "文本分类",
    fillMask: "填空",
    model: "模型",
    key: "API 密钥",
    text: "文本",
    insert: "插入 [MASK]",
    second: "再加一段文本（句对）",
    secondLabel: "第二段文本",
    examples: "试试这些例子",
    sendClassify: "分类",
    sendFill: "填空",
    busy: "计算中…",
    answer: "结果",
    idle: "写一段文本，或点一个例子。",
    hintFill: "[MASK] 代表一个待填的字或词片。",
    timing: "用时",
    tokenize: "分词",
    queue: "排队",
    inference: "推理",
    other: "其他",
    total: "服务合计",
    trip: "往返",
    exchange: "请求与回答（JSON）",
    mask: (number) => `第 ${number} 个空`,
    alternatives: (number, count) => (count > 1 ? `第 ${number} 个空的候选` : "候选"),
    truncated: "文本超过模型长度，已截断。",
    more: (count) => `另有 ${count} 个类别`,
    retry: (seconds) => `请在 ${seconds} 秒后再试。`,
    unreachable: "连不上服务，请检查它是否在运行。",
    unreadable: "服务的回答无法读取。",
    none: "没有可用的模型",
    docs: "接口文档",
    models: "模型列表",
    metrics: "指标",
  },
  en: {
    tagline: "Classify and fill Chinese text",
    task: "Task",
    classify: "Classify",
    fillMask: "Fill mask",
    model: "Model",
    key: "API key",
    text: "Text",
    insert: "Insert [MASK]",
    second: "Add a second text (pair)",
    secondLabel: "Second text",
    examples: "Try one of these",
    sendClassify: "Classify",
    sendFill: "Fill",
    busy: "Working…",
    answer: "Result",
    idle: "Write a text, or take one of the examples.",
    hintFill: "[MASK] stands for one character or piece of a word.",
    timing: "Time taken",
    tokenize: "tokenize",
    queue: "queue",
    inference: "inference",
    other: "other",
    total: "service",
    trip: "round trip",
    exchange: "Request and answer (JSON)",
    mask: (number) => `mask ${number}`,
    alternatives: (number, count) => (count > 1 ? `Candidates for mask ${number}` : "Candidates"),
    truncated: "The text was longer than the model and has been cut.",
    more: (count) => `and ${count} more classes`,
    retry: (seconds) => `Try again in ${seconds} s.`,
    unreachable: "The service cannot be reached; is it running?",
    unreadable: "The answer of the service cannot be read.",
    none: "no model for this",
    docs: "API documentation",
    models: "Models",
    metrics: "Metrics",
  },
};

const EXAMPLES = {
  classify: ["房间很干净，服务也很周到，下次还会再来。", "质量太差了，用了两天就坏了，非常失望。", "位置方便，就是隔音不太好。"],
  "fill-mask": ["他把钱存进了[MASK]行。", "我[MASK]常喜欢这本书。", "中国经[MASK]发[MASK]很快。"],
};
const ENDPOINTS = { classify: "classify", "fill-mask": "fill-mask" };
const MASK = "[MASK]";
const SHOWN_LABELS = 12;
const PARTS = ["tokenize", "queue", "inference"];

const $ = (id) => document.getElementById(id);
const state = {
  language: "en",
  task: "classify",
  models: [],
  drafts: { classify: EXAMPLES.classify[0], "fill-mask": EXAMPLES["fill-mask"][0] },
  shown: null, // what the result area shows, so that it can be said again in the other language
  asking: null,
};
const say = (name, ...values) => {
  const text = TEXTS[state.language][name];
  return typeof text === "function" ? text(...values) : text;
};

/** An element with attributes, and children that are elements or text. Nothing is ever parsed as HTML. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// --- The service ---

/** One request; resolves to {body, timing, milliseconds}, rejects with {sentence, status, code}. */
async function request(path, body, signal) {
  const headers = {};
  if (body) headers["Content-Type"] = "application/json";
  if ($("key").value) headers.Authorization = `Bearer ${$("key").value}`;
  const started = performance.now();
  let response;
  let answer;
  try {
    response = await fetch(path, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), signal });
  } catch (error) {
    throw error.name === "AbortError" ? error : { say: "unreachable" };
  }
  try {
    answer = await response.json();
  } catch (error) {
    throw error.name === "AbortError" ? error : { say: "unreadable", status: response.status };
  }
  const milliseconds = performance.now() - started;
  if (!response.ok) {
    if (response.status === 401) $("key-row").hidden = false;
    const retry = response.headers.get("Retry-After");
    throw { sentence: answer.detail, status: response.status, code: answer.code, retry };
  }
  return { body: answer, timing: timings(response.headers.get("Server-Timing")), milliseconds };
}

/** Milliseconds by name, from "tokenize;dur=0.1, queue;dur=0.2, …". */
function timings(header) {
  const found = {};
  for (const part of (header || "").split(",")) {
    const match = /^\s*([\w-]+);dur=([\d.]+)/.exec(part);
    if (match) found[match[1]] = Number(match[2]);
  }
  return found;
}

// --- What is asked ---

function pickLanguage(language) {
  state.language = language;
  try {
    localStorage.setItem("language", language);
  } catch {
    // Storage may be forbidden; then the choice lasts as long as the page.
  }
  document.documentElement.lang = language;
  for (const element of document.querySelectorAll("[data-text]")) element.textContent = say(element.dataset.text);
  for (const button of document.querySelectorAll("[data-language]")) {
    button.setAttribute("aria-pressed", String(button.dataset.language === language));
  }
  showTask();
  if (state.shown) state.shown();
}

function pickTask(task) {
  if (task === state.task) return;
  state.drafts[state.task] = $("text").value;
  state.task = task;
  $("text").value = state.drafts[task];
  state.asking?.abort();
  clear();
  showTask();
}

function showTask() {
  for (const tab of document.querySelectorAll("[role=tab]")) {
    const chosen = tab.dataset.task === state.task;
    tab.setAttribute("aria-selected", String(chosen));
    tab.tabIndex = chosen ? 0 : -1;
  }
  const filling = state.task === "fill-mask";
  $("fields").setAttribute("aria-labelledby", `tab-${state.task}`);
  $("insert").hidden = !filling;
  $("hint").textContent = filling ? say("hintFill") : "";
  $("hint").hidden = !filling;
  $("send").textContent = say(filling ? "sendFill" : "sendClassify");
  const before = $("model").value;
  const able = state.models.filter((model) => model.task === state.task);
  const options = able.map((model) => make("option", { value: model.name }, `${model.name} · ${model.version}`));
  $("model").replaceChildren(...(options.length ? options : [make("option", { value: "" }, say("none"))]));
  if (able.some((model) => model.name === before)) $("model").value = before;
  $("model").disabled = !able.length;
  $("examples").replaceChildren(
    ...EXAMPLES[state.task].map((text) => {
      const button = make("button", { type: "button", lang: "zh" }, text);
      button.addEventListener("click", () => {
        $("text").value = text;
        $("pair").value = "";
        ask();
      });
      return button;
    }),
  );
}

async function loadModels() {
  try {
    state.models = (await request("models")).body.models;
    clear();
  } catch (problem) {
    showProblem(problem);
  }
  showTask();
}

async function ask() {
  state.asking?.abort();
  const asking = (state.asking = new AbortController());
  const text = $("text").value;
  const pair = $("second").open && $("pair").value ? $("pair").value : null;
  const body = { text, ...(pair && { text_pair: pair }), ...($("model").value && { model: $("model").value }) };
  const path = ENDPOINTS[state.task];
  busy(true);
  try {
    if (!state.models.length) await loadModels();
    const answer = await request(path, body, asking.signal);
    showAnswer(path, body, answer);
  } catch (problem) {
    if (problem.name === "AbortError") return;
    showProblem(problem);
  } finally {
    if (state.asking === asking) busy(false);
  }
  if ($("answer").getBoundingClientRect().top > window.innerHeight - 120) $("answer").scrollIntoView({ block: "start" });
}

function busy(working) {
  $("send").setAttribute("aria-busy", String(working));
  $("send").textContent = say(working ? "busy" : state.task === "fill-mask" ? "sendFill" : "sendClassify");
}

function insertMask() {
  const field = $("text");
  field.setRangeText(MASK, field.selectionStart, field.selectionEnd, "end");
  field.focus();
}

// --- What is answered ---

function clear() {
  state.shown = null;
  for (const id of ["problem", "result", "timing", "exchange"]) $(id).hidden = true;
  $("idle").hidden = false;
}

function showProblem(problem) {
  if (!problem.say && !problem.sentence && !problem.status) throw problem;
  const show = () => {
    clear();
    const about = [problem.status, problem.code].filter(Boolean).join(" · ");
    const retry = problem.retry ? [" ", say("retry", problem.retry)] : [];
    const sentence = problem.sentence || say(problem.say || "unreadable");
    $("problem").replaceChildren(sentence, ...retry, ...(about ? [make("small", {}, about)] : []));
    $("idle").hidden = true;
    $("problem").hidden = false;
    state.shown = show;
  };
  show();
}

function showAnswer(path, body, answer) {
  const [result] = answer.body.results;
  const chosen = (result.masks || []).map(() => 0);
  let active = 0;
  const show = () => {
    clear();
    $("idle").hidden = true;
    const parts = result.masks ? masks(body, result.masks, chosen, active, pick) : [labels(result.labels, kindOf(answer.body.model))];
    if (result.truncated) parts.push(make("p", { class: "note" }, say("truncated")));
    $("result").replaceChildren(...parts);
    showTiming(answer);
    showExchange(path, body, answer.body);
    for (const id of ["result", "timing", "exchange"]) $(id).hidden = false;
    state.shown = show;
  };
  const pick = (mask, candidate) => {
    active = mask;
    chosen[mask] = candidate ?? chosen[mask];
    show();
    // What was pressed has been made anew, and must keep the focus.
    const again = candidate === undefined ? `.mask[data-mask="${mask}"]` : `.bar[data-candidate="${candidate}"]`;
    $("result").querySelector(again).focus();
  };
  show();
}

/** What the scores of a model are: softmax, sigmoid or raw. */
function kindOf(name) {
  return state.models.find((model) => model.name === name)?.scores;
}

function bar(tag, name, score, attributes, shown) {
  const fill = make("i");
  // Set a moment later, so that it grows.
  requestAnimationFrame(() => (fill.style.width = `${Math.min(1, Math.max(0, score)) * 100}%`));
  return make(
    tag,
    attributes,
    make("span", { class: "name", lang: "zh" }, name),
    make("span", { class: "track", "aria-hidden": "true" }, fill),
    make("span", { class: "share" }, shown ?? `${(score * 100).toFixed(score < 0.001 ? 3 : 1)}%`),
  );
}

function labels(ranked, kind) {
  const rows = ranked.slice(0, SHOWN_LABELS).map(({ label, score }, place) => {
    const best = kind === "sigmoid" ? score >= 0.5 : place === 0;
    const shown = kind === "raw" ? score.toPrecision(4) : undefined;
    return make("li", {}, bar("div", label, score, { class: best ? "bar best" : "bar" }, shown));
  });
  if (ranked.length > SHOWN_LABELS) rows.push(make("li", { class: "hint" }, say("more", ranked.length - SHOWN_LABELS)));
  return make("ul", { class: "bars" }, ...rows);
}

/** The sentence with its masks as buttons, and the candidates of the active one. */
function masks(body, candidates, chosen, active, pick) {
  const piece = (candidate) => candidate.token.replace(/^##/, "");
  let mask = 0;
  const sentences = [body.text, body.text_pair].filter(Boolean).map((text) => {
    const sentence = make("p", { class: "sentence", lang: "zh" });
    text.split(MASK).forEach((part, place) => {
      if (place) {
        const number = mask++;
        const button = make(
          "button",
          {
            type: "button",
            class: "mask",
            "data-mask": number,
            "aria-pressed": String(number === active),
            "aria-label": `${say("mask", number + 1)}: ${piece(candidates[number][chosen[number]])}`,
          },
          piece(candidates[number][chosen[number]]),
        );
        button.addEventListener("click", () => pick(number));
        sentence.append(button);
      }
      sentence.append(part);
    });
    return sentence;
  });
  const rows = candidates[active].map((candidate, place) => {
    const button = bar("button", candidate.token, candidate.score, {
      type: "button",
      class: place ? "bar" : "bar best",
      "data-candidate": place,
      "aria-pressed": String(place === chosen[active]),
    });
    button.addEventListener("click", () => pick(active, place));
    return make("li", {}, button);
  });
  return [
    ...sentences,
    make("h3", {}, say("alternatives", active + 1, candidates.length)),
    make("ul", { class: "bars" }, ...rows),
  ];
}

function showTiming({ timing, milliseconds }) {
  const known = PARTS.filter((name) => name in timing);
  const other = Math.max(0, (timing.total || 0) - known.reduce((sum, name) => sum + timing[name], 0));
  const parts = [...known.map((name) => [name, timing[name]]), ["other", other]];
  const stack = $("timing").querySelector(".stack");
  stack.replaceChildren(
    ...parts.map(([name, duration]) => {
      const segment = make("i", { class: name });
      segment.style.flexGrow = duration;
      return segment;
    }),
  );
  const row = (name, duration, kind) =>
    make("div", { class: kind }, make("dt", {}, say(name)), make("dd", {}, `${duration.toFixed(duration < 10 ? 2 : 1)} ms`));
  const whole = [row("total", timing.total || 0, "whole"), row("trip", milliseconds, "whole")];
  $("timing").querySelector("dl").replaceChildren(...parts.map(([name, duration]) => row(name, duration, name)), ...whole);
}

function showExchange(path, body, answer) {
  const quoted = JSON.stringify(body).replaceAll("'", "'\\''");
  const url = new URL(path, document.baseURI);
  $("command").textContent = `curl -s ${url} -H 'Content-Type: application/json' \\\n  -d '${quoted}'`;
  $("json").textContent = JSON.stringify(answer, null, 2);
}

// --- Start ---

function startLanguage() {
  let kept = null;
  try {
    kept = localStorage.getItem("language");
  } catch {
    // As above.
  }
  if (kept in TEXTS) return kept;
  return (navigator.language || "").toLowerCase().startsWith("zh") ? "zh" : "en";
}

$("text").value = state.drafts[state.task];
for (const button of document.querySelectorAll("[data-language]")) {
  button.addEventListener("click", () => pickLanguage(button.dataset.language));
}
const tabs = [...document.querySelectorAll("[role=tab]")];
for (const tab of tabs) {
  tab.addEventListener("click", () => pickTask(tab.dataset.task));
  tab.addEventListener("keydown", (event) => {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const next = tabs[(tabs.indexOf(tab) + step + tabs.length) % tabs.length];
    pickTask(next.dataset.task);
    next.focus();
  });
}
$("insert").addEventListener("click", insertMask);
$("key").addEventListener("change", loadModels);
$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
$("ask").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask();
});
pickLanguage(startLanguage());
loadModels();
