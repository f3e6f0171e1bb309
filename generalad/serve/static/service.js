// Asks the service; the token is kept for this tab only.

let token = sessionStorage.getItem("token") ?? "";

export const operator = () => localStorage.getItem("by") ?? "";

export class Failed extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** One request; asks for the token where that is missing or wrong. */
export async function ask(path, { method = "GET", body } = {}) {
  for (;;) {
    const headers = token ? { Authorization: `Bearer ${token}` } : {};
    const answer = await fetch(path, { method, headers, body: body && JSON.stringify(body) });
    if (answer.status === 401) {
      await askForToken();
      continue;
    }
    if (!answer.ok) {
      const said = await answer.json().catch(() => ({}));
      throw new Failed(answer.status, [said.error ?? answer.statusText, said.remedy].filter(Boolean).join(" → "));
    }
    return answer;
  }
}

export const json = async (path, options) => (await ask(path, options)).json();

export const post = (path, body = {}) => json(path, { method: "POST", body: { ...body, by: operator() } });

/** Put a picture into an <img>; the one before is freed. */
export async function show(image, path) {
  const url = URL.createObjectURL(await (await ask(path)).blob());
  const before = image.src;
  image.src = url;
  if (before.startsWith("blob:")) URL.revokeObjectURL(before);
}

/** Have the browser keep a file. */
export async function download(path, name) {
  const url = URL.createObjectURL(await (await ask(path)).blob());
  const link = Object.assign(document.createElement("a"), { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

let asking = null;

function askForToken() {
  asking ??= new Promise((done) => {
    const dialog = document.getElementById("ask");
    document.getElementById("wrong").hidden = !token;
    dialog.addEventListener("cancel", (event) => event.preventDefault());
    dialog.addEventListener("close", () => {
      const field = document.getElementById("token");
      token = field.value.trim();
      field.value = "";
      sessionStorage.setItem("token", token);
      asking = null;
      done();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
