// Numbers, sizes and times in the user's language.

import { LANGUAGE } from "./texts.js";

const number = new Intl.NumberFormat(LANGUAGE);
const clock = new Intl.DateTimeFormat(LANGUAGE, { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });
const day = new Intl.DateTimeFormat(LANGUAGE, {
    month: "short",
    day: "numeric",
    hour: "2-digit",
    minute: "2-digit",
    hourCycle: "h23",
});
const full = new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "medium" });
const whole = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 0 });
const tenths = new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 1 });
const unit = (name) => new Intl.NumberFormat(LANGUAGE, { style: "unit", unit: name, unitDisplay: "short" });
const [seconds, minutes, hours, days] = ["second", "minute", "hour", "day"].map(unit);

export const sorter = new Intl.Collator(LANGUAGE, { numeric: true });

export function count(value) {
    return number.format(value);
}

/** A size as `systemctl status` counts it, in units of 1,024. */
export function size(value) {
    const mib = value / (1024 * 1024);
    if (mib < 1000) return `${whole.format(Math.max(1, mib))} MiB`;
    return `${tenths.format(mib / 1024)} GiB`;
}

/** How long something lasts: the largest unit, which is enough to judge by. */
export function duration(length) {
    const value = Math.max(0, Math.floor(length));
    if (value < 60) return seconds.format(value);
    if (value < 3600) return minutes.format(Math.floor(value / 60));
    if (value < 48 * 3600) return hours.format(Math.floor(value / 3600));
    return days.format(Math.floor(value / 86400));
}

/** Remaining life as a clock shows it: 1:05. */
export function countdown(length) {
    const value = Math.max(0, Math.ceil(length));
    return `${Math.floor(value / 60)}:${String(value % 60).padStart(2, "0")}`;
}

/** The time of day; with the date if it is another day. */
export function time(unix) {
    const date = new Date(unix * 1000);
    return date.toDateString() === new Date().toDateString() ? clock.format(date) : day.format(date);
}

export function timeOfDay(unix) {
    return clock.format(new Date(unix * 1000));
}

export function fullTime(unix) {
    return full.format(new Date(unix * 1000));
}
