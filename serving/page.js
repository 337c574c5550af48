// The page's behaviour: a file or sample goes to v1/score by one request, and what comes back is shown. Gradio takes no file.
(() => {
  const MOST_TRIES = 20;
  const at = (selector) => document.querySelector(`#lmmvqa ${selector}`);
  let request = null;
  let timer = 0;

  function say(text, isError = false) {
    at(".status").textContent = text;
    at(".status").classList.toggle("error", isError);
  }

  function show(file) {
    const preview = at(".preview");
    const old = preview.firstChild;
    if (old) URL.revokeObjectURL(old.src);
    const view = document.createElement(file.type.startsWith("image/") ? "img" : "video");
    view.src = URL.createObjectURL(file);
    if (view.tagName === "VIDEO") Object.assign(view, { controls: true, muted: true, playsInline: true });
    view.onerror = () => view.remove(); // what the browser cannot play may still be scored
    preview.replaceChildren(view);
  }

  function send(file, name, tries = 0) {
    if (request) request.abort(); // the server drops what nobody waits for
    clearTimeout(timer);
    at(".result").replaceChildren();
    request = new XMLHttpRequest();
    request.open("POST", `v1/score?problems=true&name=${encodeURIComponent(name.slice(-200))}`);
    request.setRequestHeader("Accept", "text/html, application/json");
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => say(`Uploading ${name}: ${Math.round((100 * event.loaded) / event.total)} %`);
    request.upload.onload = () => say(`Scoring ${name} …`);
    request.onerror = () => say("The server cannot be reached, or the upload was cut. Try again.", true);
    request.onload = ({ target }) => {
      if (target.status === 200) {
        say("");
        at(".result").innerHTML = target.responseText;
        return;
      }
      const seconds = Number(target.getResponseHeader("Retry-After"));
      if (target.status === 503 && seconds && tries < MOST_TRIES) {
        say(`The server is busy. Trying again in ${seconds} s …`);
        timer = setTimeout(() => send(file, name, tries + 1), 1000 * seconds);
        return;
      }
      let error = `The server answered ${target.status}. Try again.`;
      if ((target.getResponseHeader("Content-Type") || "").startsWith("application/json")) error = JSON.parse(target.responseText).error;
      say(error, true);
    };
    say(`Uploading ${name} …`);
    request.send(file);
  }

  function take(file, name = file.name) {
    show(file);
    send(file, name);
  }

  async function takeSample(name) {
    say("Drawing the sample …");
    const answer = await fetch(`v1/samples/${name}.mp4`);
    if (answer.ok) take(await answer.blob(), `${name}.mp4`);
    else say(`The server answered ${answer.status}. Try again.`, true);
  }

  document.addEventListener("change", ({ target }) => {
    if (!target.matches("#lmmvqa input[type=file]") || !target.files.length) return;
    take(target.files[0]);
    target.value = ""; // so that the same file can be chosen again
  });
  document.addEventListener("click", ({ target }) => {
    const button = target.closest("#lmmvqa button");
    if (!button) return;
    if (button.dataset.sample) takeSample(button.dataset.sample).catch(() => say("The server cannot be reached.", true));
    const video = at(".preview video");
    if (button.dataset.time && video) video.currentTime = Number(button.dataset.time);
  });
  for (const kind of ["dragover", "dragleave", "drop"]) {
    document.addEventListener(kind, (event) => {
      const zone = event.target.closest && event.target.closest("#lmmvqa .drop");
      if (!zone) return;
      event.preventDefault();
      zone.classList.toggle("over", kind === "dragover");
      if (kind === "drop" && event.dataTransfer.files.length) take(event.dataTransfer.files[0]);
    });
  }
})();
