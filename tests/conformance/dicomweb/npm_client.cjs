// Calls the npm package dicomweb-client, which was written for browsers, for a test: a line of JSON in for each call,
// a line out. Bytes travel as {"base64": ...}. The package is used as it is published; what Node lacks, a browser's
// XMLHttpRequest, is made of fetch here, and nothing more of it than the package uses.
const readline = require("node:readline");

global.XMLHttpRequest = class {
  readyState = 0;
  status = 0;
  responseType = "";
  #asked = {};
  #answered = new Headers();

  open(method, url) {
    this.#asked = { method: method.toUpperCase(), url, headers: {} };
  }

  setRequestHeader(name, value) {
    this.#asked.headers[name] = value;
  }

  getResponseHeader(name) {
    return this.#answered.get(name);
  }

  getAllResponseHeaders() {
    return [...this.#answered].map(([name, value]) => `${name}: ${value}\r\n`).join("");
  }

  async send(body) {
    const { url, ...asked } = this.#asked;
    const answer = await fetch(url, { ...asked, body });
    this.#answered = answer.headers;
    this.status = answer.status;
    const bytes = await answer.arrayBuffer();
    const kinds = { arraybuffer: () => bytes, json: () => parse(bytes), blob: () => new Blob([bytes]) };
    this.response = (kinds[this.responseType] ?? (() => Buffer.from(bytes).toString()))();
    this.readyState = 4;
    this.onreadystatechange();
  }
};

// As a browser has it: what is not JSON is null.
function parse(bytes) {
  try {
    return JSON.parse(Buffer.from(bytes).toString());
  } catch {
    return null;
  }
}

async function pack(value) {
  if (value instanceof Blob) return pack(await value.arrayBuffer());
  if (value instanceof ArrayBuffer || ArrayBuffer.isView(value)) return { base64: Buffer.from(value).toString("base64") };
  if (Array.isArray(value)) return Promise.all(value.map(pack));
  return value;
}

function unpack(value) {
  if (Array.isArray(value)) return value.map(unpack);
  if (value === null || typeof value !== "object") return value;
  if ("base64" in value) return new Uint8Array(Buffer.from(value.base64, "base64")).buffer;
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, unpack(inner)]));
}

async function answer({ client, method, options }) {
  try {
    return { value: await pack(await new api.DICOMwebClient(client)[method](unpack(options))) };
  } catch (error) {
    return { error: String(error.message), status: error.status ?? 0 };
  }
}

const { api } = require(process.argv[2]);
console.debug = () => {};

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    process.stdout.write(JSON.stringify(await answer(JSON.parse(line))) + "\n");
  }
})();
