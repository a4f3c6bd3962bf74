"use strict";

const POLL_MS = 500;
const TIMEOUT_MS = 3000;
const STREAM_RETRY_MS = 2000;

const byId = (id) => document.getElementById(id);
const picture = byId("picture");
const slider = byId("slider");

let connected = false;
let lastUptime = 0;
let streamRetry = 0;
let sliderBusyUntil = 0;
let sliderTimer = 0;

function text(id, value) {
  byId(id).textContent = value;
}

function openStream() {
  clearTimeout(streamRetry);
  streamRetry = 0;
  picture.src = `/stream.mjpg?${Date.now()}`;
}

picture.addEventListener("error", () => {
  if (streamRetry === 0) {
    streamRetry = setTimeout(openStream, STREAM_RETRY_MS);
  }
});

function millis(value) {
  return value === null ? "–" : `${value.toFixed(1)} ms`;
}

function percent(value) {
  return value === null ? "–" : `${value.toFixed(0)} %`;
}

function mebibytes(bytes) {
  return `${(bytes / 1048576).toFixed(0)} MiB`;
}

function duration(seconds) {
  if (seconds === null) return "–";
  return seconds < 10 ? `${(seconds * 1000).toFixed(0)} ms` : `${seconds.toFixed(0)} s`;
}

function showState(words, alarm, overlay) {
  text("state", words);
  byId("state").classList.toggle("alarm", alarm);
  byId("overlay").hidden = overlay === null;
  text("overlay", overlay ?? "");
}

function showSource(status) {
  if (!status.healthy) {
    showState("detection is stuck", true, null);
    return;
  }
  switch (status.source.state) {
    case "live":
      showState("live", false, null);
      break;
    case "no_signal":
      showState("no signal", true, `no signal: ${status.source.reason}`);
      break;
    case "ended":
      showState("ended", false, null);
      break;
    default:
      showState("starting", false, "waiting for the first picture");
  }
}

function showDetections(scene) {
  const detections = scene === null ? [] : scene.classes ?? scene.detections;
  const rows = detections.map((detection) => {
    const row = document.createElement("li");
    const label = document.createElement("span");
    const id = detection.track_id;
    label.textContent = id === undefined ? detection.label : `${detection.label} #${id}`;
    const bar = document.createElement("progress");
    bar.value = detection.confidence;
    const number = document.createElement("span");
    number.textContent = detection.confidence.toFixed(2);
    row.append(label, bar, number);
    return row;
  });
  if (rows.length === 0) {
    const row = document.createElement("li");
    row.className = "none";
    row.textContent = "nothing";
    rows.push(row);
  }
  byId("detections").replaceChildren(...rows);
}

function showCounts(list, section, counts) {
  byId(section).hidden = counts.length === 0;
  const rows = counts.map((count) => {
    const row = document.createElement("div");
    const name = document.createElement("dt");
    name.textContent = count.zone === undefined ? count.label : `${count.zone}: ${count.label}`;
    const numbers = document.createElement("dd");
    numbers.textContent = `${count.now} now, ${count.total} in all`;
    row.append(name, numbers);
    return row;
  });
  byId(list).replaceChildren(...rows);
}

function showThreshold(confidence) {
  if (Date.now() < sliderBusyUntil) return;
  slider.value = confidence;
  text("threshold", confidence.toFixed(2));
}

function showMachine(system) {
  text("cpu", percent(system.process_cpu_percent));
  text("machine", percent(system.cpu_percent));
  text("memory", system.rss_bytes === null ? "–" : mebibytes(system.rss_bytes));
  const free = system.memory_available_bytes;
  text("free", free === null ? "–" : mebibytes(free));
  const celsius = system.temperature_celsius;
  byId("temperature-row").hidden = celsius === null;
  text("temperature", celsius === null ? "" : `${celsius.toFixed(0)} °C`);
  text("written", system.written_bytes === null ? "–" : mebibytes(system.written_bytes));
  const flags = system.throttling;
  byId("throttling-row").hidden = flags === null;
  if (flags !== null) {
    const past = words(flags.since_boot);
    text("throttling", words(flags.now) || (past ? `earlier: ${past}` : "none"));
  }
}

function words(flags) {
  const set = Object.keys(flags).filter((name) => flags[name]);
  return set.join(", ").replaceAll("_", " ");
}

function showBroker(mqtt) {
  byId("mqtt-row").hidden = mqtt === null;
  if (mqtt === null) return;
  text("mqtt", mqtt.state === "disconnected" ? `no connection: ${mqtt.reason}` : mqtt.state);
}

function showGovernor(duty) {
  byId("governor-row").hidden = duty === 100;
  text("governor", `slowed to ${duty} % against the heat`);
}

function show(status) {
  text("model", status.model);
  text("fps", status.fps.toFixed(1));
  text("p50", millis(status.inference.p50_ms));
  text("p99", millis(status.inference.p99_ms));
  text("before", millis(status.preprocess.p50_ms));
  text("after", millis(status.decode.p50_ms));
  text("delay", millis(status.age.p99_ms));
  text("age", duration(status.age_seconds));
  text("frames", status.inferred);
  text("dropped", status.dropped);
  showSource(status);
  showDetections(status.scene);
  showCounts("zones", "zones-section", status.objects.zones);
  showCounts("tracks", "tracks-section", status.objects.tracks);
  showThreshold(status.confidence);
  showMachine(status.system);
  showBroker(status.mqtt);
  showGovernor(status.duty_percent);
}

async function ask(path, options = {}) {
  const answer = await fetch(path, { ...options, signal: AbortSignal.timeout(TIMEOUT_MS) });
  // The token was changed: the page's address shows the form that asks for it.
  if (answer.status === 401) location.reload();
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

async function poll() {
  try {
    const status = await ask("/api/status");
    const restarted = status.uptime_seconds < lastUptime;
    lastUptime = status.uptime_seconds;
    if (!connected || restarted) openStream();
    connected = true;
    show(status);
  } catch {
    connected = false;
    showState("connection lost", true, "connection lost; trying again");
  }
  setTimeout(poll, POLL_MS);
}

async function sendThreshold() {
  try {
    const answer = await ask("/api/threshold", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ confidence: Number(slider.value) }),
    });
    text("threshold", answer.confidence.toFixed(2));
  } catch {
    sliderBusyUntil = 0;
  }
}

slider.addEventListener("input", () => {
  sliderBusyUntil = Date.now() + 1000;
  text("threshold", Number(slider.value).toFixed(2));
  clearTimeout(sliderTimer);
  sliderTimer = setTimeout(sendThreshold, 80);
});

poll();
