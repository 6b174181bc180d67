// What an account is, in words: concluded from all that the API says of it.

import { t } from "./texts.js";

/** How each kind looks: `act` waits for a person, `bad` is wrong, `busy` gets on by itself, `ok` and `idle` need nothing. */
const TONES = {
    code: "act",
    confirming: "act",
    put_out: "bad",
    held: "bad",
    person: "bad",
    running: "ok",
    starting: "busy",
    updating: "busy",
    waiting: "busy",
    offline: "busy",
    unreachable: "busy",
    stopping: "idle",
    stopped: "idle",
    frozen: "idle",
    other: "idle",
};

function processes(account) {
    return [account.client, account.implementation?.process].filter(Boolean);
}

/** Whether its client's process is gone. */
export function isGone(account) {
    return account.client.phase === "gone";
}

/** Whether it was asked to be stopped, and is. */
export function isStopped(account) {
    return isGone(account) && account.desired === "stopped";
}

function kindOf(account) {
    const { client, login, state } = account;
    const all = processes(account);
    // What is known of it is from before.
    if (account.machine_state === "unreachable") return "unreachable";
    if (client.phase === "stopping") return "stopping";
    if (isStopped(account)) return "stopped";
    if (login?.state === "put_out") return "put_out";
    if (all.some((process) => process.held)) return "held";
    if (all.some((process) => process.frozen)) return "frozen";
    if (state === "scaning") return "code";
    if (state === "confirming") return "confirming";
    if (account.needs_person) return "person";
    if (all.some((process) => process.phase === "gone" && process.next_start !== null)) return "waiting";
    if (login?.state === "offline") return "offline";
    if (state === "running") return "running";
    if (state === "updating") return "updating";
    if (state === "init" || state === "loading" || client.phase === "reserved" || client.phase === "starting") return "starting";
    if (state === "stop") return isGone(account) ? "stopped" : "stopping";
    return "other";
}

/** Whether a person can do something for it here: not while its machine is away. */
export function needsPerson(account) {
    return account.needs_person && account.machine_state !== "unreachable";
}

/** Those that need a person come first, and of these the scans. */
function rankOf(kind, account) {
    if (kind === "code") return 0;
    if (kind === "confirming") return 1;
    return needsPerson(account) ? 2 : 3;
}

/** Its kind, how that looks, its word, and where it stands in the list. */
export function describe(account) {
    const kind = kindOf(account);
    const word = kind === "other" ? account.state : t(`word_${kind}`);
    return { kind, tone: TONES[kind], word, rank: rankOf(kind, account) };
}

/** The same as one sentence. */
export function sentence(account, kind) {
    return kind === "other" ? t("says_other", { state: account.state }) : t(`says_${kind}`);
}

/** What a person has to do; null where nothing is to be done. */
export function advice(account, kind) {
    switch (kind) {
        case "code":
        case "confirming":
            // The controller names the address at which a code of the sandbox is scanned: no phone can.
            return account.backend === "sandbox" ? null : t(`do_${kind}`);
        case "held":
        case "person":
            return t(`do_${kind}`);
        case "put_out":
            return t(account.implementation ? "do_put_out" : "do_put_out_start");
        case "frozen": {
            const unit = processes(account).find((process) => process.frozen)?.unit;
            return unit ? t("do_frozen", { unit }) : null;
        }
        default:
            return null;
    }
}

/** Why it is so, in the words of the one that told it. What runs well needs no reason. */
export function reason(account, kind) {
    if (["running", "stopping", "stopped", "updating"].includes(kind)) return null;
    if (kind === "unreachable") return `${account.machine}: ${account.machine_reason}`;
    const ended = account.login?.put_out;
    if (ended) return t(ended.reason ? "why_put_out_because" : "why_put_out", { why: ended.reason });
    const told = account.reason || account.login?.reason || account.implementation?.reason;
    if (told) return told;
    const last = processes(account).find((process) => process.phase === "gone" && process.last_exit);
    return last?.last_exit ?? null;
}

/** When it is started again, in Unix seconds. */
export function nextStart(account) {
    const times = processes(account).filter((process) => process.phase === "gone" && process.next_start !== null);
    return times.length === 0 ? null : Math.min(...times.map((process) => process.next_start));
}

/** What a caller of this access can do with it now. */
export function possible(account) {
    const { client } = account;
    const stopped = isStopped(account);
    const held = processes(account).some((process) => process.held);
    return {
        start: isGone(account) || held,
        stop: !stopped && client.phase !== "stopping",
        restart: client.phase === "up" || client.phase === "starting",
        // This starts what has ended, too, unless it was asked to be stopped.
        relogin: !stopped && client.phase !== "stopping",
        new_login: !stopped && client.phase !== "stopping",
        move: client.phase !== "stopping",
        remove: true,
        forget: isGone(account) && (account.implementation?.process?.phase ?? "gone") === "gone",
    };
}
