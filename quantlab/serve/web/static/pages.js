"use strict";
(() => {
  // Who cannot see the page hears when a job's state changes, not every number.
  const said = document.getElementById("said");
  const say = () => {
    const now = document.querySelector("[data-said]")?.textContent ?? "";
    if (said && said.textContent !== now) said.textContent = now;
  };
  document.addEventListener("htmx:afterSwap", () => {
    say();
    dispatchEvent(new Event("resize")); // tables that came in may be wide
  });
  say();

  document.querySelector("[data-focus]")?.focus();

  const box = document.querySelector("[data-upload]");
  if (!box) return;
  box.hidden = false;
  const form = box.querySelector("form");
  const [file, name, bar] = ["file", "name", "bar"].map((x) => document.getElementById(`upload-${x}`));
  const told = box.querySelector("[data-told]");
  const api = "/api/v1/uploads";

  const ask = async (method, address, body, headers = {}) => {
    const answer = await fetch(address, {
      method,
      body,
      headers: { "X-CSRF-Token": box.dataset.csrf, ...headers },
    });
    const found = await answer.json();
    if (!answer.ok) throw new Error([found.detail, found.remedy].filter(Boolean).join(" "));
    return found;
  };

  const sha256 = async (blob) => {
    if (!crypto.subtle) throw new Error("Uploading from a page needs https.");
    const digest = await crypto.subtle.digest("SHA-256", await blob.arrayBuffer());
    return [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  };

  const upload = async (blob, label) => {
    const facts = { name: label, bytes: blob.size, sha256: await sha256(blob) };
    const json = { "Content-Type": "application/json" };
    const begun = await ask("POST", api, JSON.stringify(facts), json);
    if (begun.model) return begun.model;
    let at = begun.received;
    while (at < blob.size) {
      const part = blob.slice(at, at + begun.max_chunk);
      const kind = { "Content-Type": "application/octet-stream" };
      await ask("PUT", `${api}/${begun.id}?offset=${at}`, part, kind);
      at += part.size;
      bar.value = at / blob.size;
    }
    told.textContent = "Looking at the model …";
    return ask("POST", `${api}/${begun.id}/complete`);
  };

  // A form gets the model where it has none yet; a list is loaded again.
  const use = (model) => {
    const lists = [...document.querySelectorAll("select[data-stock=models]")];
    if (!lists.length) return location.reload();
    for (const list of lists) list.add(new Option(model.name, model.sha256), 1);
    const free = lists.find((list) => !list.value);
    if (free) free.value = model.sha256;
    return undefined;
  };

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const blob = file.files[0];
    const button = form.querySelector("button");
    if (!blob || button.disabled) return;
    button.disabled = true;
    bar.value = 0;
    bar.parentNode.hidden = false;
    told.textContent = "Reading the file …";
    try {
      const plain = blob.name.replace(/\.(onnx|zip)$/i, "").replace(/[^A-Za-z0-9._+-]/g, "-");
      const model = await upload(blob, name.value.trim() || plain);
      told.textContent = `${model.name} can be used now.`;
      use(model);
    } catch (error) {
      told.textContent = error.message;
    } finally {
      button.disabled = false;
      bar.parentNode.hidden = true;
    }
  });
})();
