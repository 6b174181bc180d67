// The calls of /v1.

import { t } from "./texts.js";

/** The page may stand below a path of a reverse proxy, so addresses are relative to this file. */
const ROOT = new URL("../", import.meta.url);

/** How far the controller's clock is ahead of this one, in seconds. A phone's or an office's clock may be minutes off. */
let ahead = 0;

/** The time on the controller, in Unix seconds. */
export function now() {
    return Date.now() / 1000 + ahead;
}

/** Takes the controller's time from an answer. */
export function learnTime(response) {
    const date = Date.parse(response.headers.get("date") ?? "");
    // The header has whole seconds: half of one is the likeliest rest.
    if (!Number.isNaN(date)) ahead = (date + 500 - Date.now()) / 1000;
}

/** What went wrong with a call. `status` is 0 where no answer came. */
export class Problem extends Error {
    constructor(status, code, detail) {
        super(detail);
        this.status = status;
        this.code = code;
    }

    static unreachable() {
        return new Problem(0, "unreachable", t("unreachable"));
    }

    /** What an answer says; an answer of a proxy before the controller says nothing that can be used. */
    static async of(response) {
        const body = await response.json().catch(() => ({}));
        const detail = body.detail || body.title || body.wording || t("failed_status", { status: response.status });
        return new Problem(response.status, body.code ?? "", detail);
    }
}

/** Called when the controller asks for a token. app.js sets it. */
export const hooks = { tokenNeeded() {} };

export function address(path) {
    return new URL(path.replace(/^\//, ""), ROOT);
}

async function call(method, path, body) {
    const headers = { Accept: "application/json" };
    if (body !== undefined) headers["Content-Type"] = "application/json";
    let response;
    try {
        response = await fetch(address(path), {
            method,
            headers,
            body: body === undefined ? undefined : JSON.stringify(body),
            credentials: "same-origin",
        });
    } catch {
        throw Problem.unreachable();
    }
    learnTime(response);
    if (!response.ok) {
        const problem = await Problem.of(response);
        if (problem.status === 401 && problem.code !== "token_wrong") hooks.tokenNeeded();
        throw problem;
    }
    if (response.status === 204) return null;
    try {
        return await response.json();
    } catch {
        // Cut off on its way, or a page of a proxy.
        throw Problem.unreachable();
    }
}

const client = (name) => `/v1/clients/${encodeURIComponent(name)}`;

export const session = () => call("GET", "/v1/session");
export const signIn = (token) => call("POST", "/v1/session", { token });
export const signOut = () => call("DELETE", "/v1/session");

export function page(after) {
    return call("GET", after === null ? "/v1/clients" : `/v1/clients?after=${encodeURIComponent(after)}`);
}

export const account = (name) => call("GET", client(name));
export const explain = (name) => call("GET", `${client(name)}/explain`);
export const code = (name) => call("GET", `${client(name)}/qrcode`);
export const put = (name, parameters, desired) => call("PUT", client(name), { parameters, desired });
export const start = (name) => call("POST", `${client(name)}/start`);
export const stop = (name) => call("POST", `${client(name)}/stop`);
export const restart = (name) => call("POST", `${client(name)}/restart`);
export const relogin = (name) => call("POST", `${client(name)}/relogin`);
export const newLogin = (name) => call("POST", `${client(name)}/relogin`, { forget: true });
export const machine = () => call("GET", "/v1/machine");
/** Takes it to another machine. Returns it as it is there. */
export const move = async (name, to) => {
    await call("POST", `${client(name)}/move`, { machine: to });
    return account(name);
};
export const scanLink = (name) => call("POST", `${client(name)}/scan-link`);
export const remove = (name) => call("DELETE", client(name));
export const forget = (name) => call("DELETE", `${client(name)}?forget=1`);

/** The world of an account in the sandbox, and what a person of it does. Its client answers in the words of OneBot. */
export const sandboxAddress = (name, path) => address(`${client(name)}/sandbox/${path}`);
export const sandboxWorld = (name) => call("GET", `${client(name)}/sandbox/world`);
export const asPerson = (name, uid, what, params) =>
    call("POST", `${client(name)}/sandbox/people/${encodeURIComponent(uid)}/${what}`, params);

export const eventsAddress = () => address("/v1/events");
export const logAddress = (name) => address(`${client(name)}/log?lines=200&follow=1`);
