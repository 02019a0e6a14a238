"use strict";

const show = (id, text) => { document.getElementById(id).textContent = text; };

async function call(path, options) {
  const answer = await fetch("/api" + path, { cache: "no-store", ...options });
  const body = await answer.json();
  if (!answer.ok) throw new Error(body.error || answer.status);
  return body;
}

async function refresh() {
  try {
    const status = await call("/status");
    for (const name of ["version", "release", "colour", "host", "visits", "notes", "processed"]) {
      show(name, status[name]);
    }
    document.documentElement.dataset.colour = status.colour;
  } catch (error) {
    show("link", String(error.message));
  }
}

// The websocket shows a switch at once: the old release says goodbye (1001), and the next one answers.
function connect() {
  const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/api/ws");
  socket.onopen = () => { show("link", "connected"); refresh(); };
  socket.onclose = (event) => {
    show("link", event.code === 1001 ? "a new release takes over" : "connecting");
    setTimeout(connect, 1000);
  };
}

document.getElementById("form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const field = document.getElementById("text");
  // The id makes a second attempt safe: the same note is never stored twice.
  const id = Array.from(crypto.getRandomValues(new Uint8Array(12)), (n) => n.toString(16).padStart(2, "0")).join("");
  const request = {
    method: "POST",
    headers: { "Content-Type": "application/json", "Idempotency-Key": id },
    body: JSON.stringify({ text: field.value }),
  };
  try {
    const note = await call("/notes", request);
    show("answer", `saved as ${note.id} by release ${note.release}`);
    field.value = "";
  } catch (error) {
    show("answer", `not saved: ${error.message}`);
  }
  refresh();
});

call("/visits", { method: "POST" }).catch(() => {}).finally(refresh);
setInterval(refresh, 3000);
connect();
