// All texts of the page, in both languages. `t(key, values)` gives one.
//
// A pair stands on one entry, so that a text can't be there in one language only. A mistake here stops the page as it loads, and a
// key that is not here throws; app.js shows both to the user.

import { CHAT_TEXTS } from "./texts_chat.js";

/** key: [English, Chinese]; {name} is replaced by a value. */
const TEXTS = {
    ...CHAT_TEXTS,

    // The frame of the page.
    title: ["wqcontroller", "wqcontroller"],
    skip: ["Skip to the content", "跳到正文"],
    needs_script: ["This page needs JavaScript.", "此页面需要启用 JavaScript。"],
    read_only: ["Read-only", "只读"],
    sign_out: ["Sign out", "退出登录"],
    connecting: ["Connecting…", "正在连接…"],
    lost: ["Connection lost, trying again…", "连接已断开，正在重试…"],
    back_online: ["Connected again.", "已重新连接。"],
    controller_trouble: ["No account can be started or stopped: {why}", "目前无法启动或停止任何帐号：{why}"],
    page_failed: ["This page has a fault. Load it again. ({detail})", "页面出错，请重新加载。（{detail}）"],
    unreachable: ["The controller can't be reached.", "无法连接到控制器。"],
    failed_status: ["The controller answered with HTTP status {status}.", "控制器返回了 HTTP 状态 {status}。"],
    dismiss: ["Dismiss", "关闭"],
    cancel: ["Cancel", "取消"],

    // Signing in.
    sign_in: ["Sign in", "登录"],
    sign_in_why: ["This controller asks for a token. Its administrator can give you one.", "此控制器需要令牌，可向管理员索取。"],
    token: ["Token", "令牌"],
    token_wrong: ["This token is not right.", "令牌不正确。"],
    token_empty: ["Enter the token.", "请输入令牌。"],
    token_too_often: ["Too many wrong tokens. Wait a minute, then try again.", "错误次数过多，请一分钟后再试。"],
    signing_in: ["Signing in…", "正在登录…"],

    // The list.
    accounts: ["Accounts", "帐号"],
    search: ["Search accounts", "搜索帐号"],
    search_hint: ["Name, number or nickname", "名称、号码或昵称"],
    filter: ["Show", "显示"],
    filter_all: ["All", "全部"],
    filter_person: ["Needs you", "需要处理"],
    filter_running: ["Running", "运行中"],
    filter_stopped: ["Stopped", "已停止"],
    shown_count: ["{shown} of {total} accounts", "显示 {shown} 个，共 {total} 个帐号"],
    none_match: ["No account matches.", "没有符合条件的帐号。"],
    show_all: ["Show all accounts", "显示全部帐号"],
    loading_list: ["Loading the accounts…", "正在加载帐号…"],
    column_name: ["Account", "帐号"],
    column_state: ["State", "状态"],
    column_program: ["Program", "程序"],
    column_since: ["For", "持续"],
    column_memory: ["Memory", "内存"],
    column_port: ["Port", "端口"],
    add_account: ["Add an account", "添加帐号"],
    empty_title: ["No accounts yet", "还没有帐号"],
    empty_next: ["Add the first one here. It appears in the list at once.", "在这里添加第一个帐号，它会立即出现在列表中。"],
    empty_read_only: [
        "There are no accounts. Your access is read-only, so you can't add one here.",
        "还没有帐号。您的权限为只读，不能在这里添加。",
    ],

    // What an account is, in a word.
    word_code: ["Needs a scan", "待扫码"],
    word_confirming: ["Confirm on the phone", "待手机确认"],
    word_put_out: ["Logged out", "已被下线"],
    word_held: ["Ended, needs you", "已结束，需要处理"],
    word_person: ["Needs you", "需要处理"],
    word_running: ["Running", "运行中"],
    word_starting: ["Starting", "启动中"],
    word_updating: ["Loading contacts", "加载联系人"],
    word_waiting: ["Starts again soon", "即将重启"],
    word_offline: ["Offline, trying again", "已掉线，重试中"],
    word_unreachable: ["Machine unreachable", "机器无法连接"],
    word_stopping: ["Stopping", "停止中"],
    word_stopped: ["Stopped", "已停止"],
    word_frozen: ["Frozen", "已冻结"],

    // The same in a sentence.
    says_code: ["The account waits for its login code to be scanned.", "帐号正在等待扫描登录二维码。"],
    says_confirming: [
        "The code was scanned. The login waits to be confirmed on the phone.",
        "二维码已扫描，等待在手机上确认登录。",
    ],
    why_put_out: ["The chat network has ended its login.", "聊天网络终止了此帐号的登录。"],
    why_put_out_because: ["The chat network has ended its login: {why}", "聊天网络终止了此帐号的登录：{why}"],
    says_put_out: ["The chat network has logged this account out.", "聊天网络已让此帐号下线。"],
    says_held: ["The account has ended, and is not started again by itself.", "帐号已结束，不会自动重启。"],
    says_person: ["The account does not get on without you.", "帐号需要您处理后才能继续。"],
    says_running: ["The account is running.", "帐号运行正常。"],
    says_starting: ["The account is starting.", "帐号正在启动。"],
    says_updating: ["The account is logged in and loads its contacts.", "帐号已登录，正在加载联系人。"],
    says_waiting: ["The account has ended, and is started again by itself.", "帐号已结束，将自动重启。"],
    says_unreachable: [
        "The controller of its machine can't be reached. What is shown is from before.",
        "无法连接该帐号所在机器的控制器，显示的是此前的状态。",
    ],
    says_offline: ["The account has lost its connection, and tries by itself to get it back.", "帐号已掉线，正在自动重新连接。"],
    says_stopping: ["The account is being stopped.", "帐号正在停止。"],
    says_stopped: ["The account is stopped.", "帐号已停止。"],
    says_frozen: ["An administrator has frozen a process of this account.", "管理员已冻结此帐号的进程。"],
    says_other: ["The account is in the state “{state}”.", "帐号处于“{state}”状态。"],

    // What to do about it.
    do_code: [
        "Open the chat program on the phone of this account, and scan the code below.",
        "请用此帐号的手机打开聊天软件，扫描下面的二维码。",
    ],
    do_confirming: ["Press the button that the chat program shows on the phone.", "请在手机的聊天软件里点击确认按钮。"],
    do_put_out: [
        "Find out whether the account was logged in elsewhere, then press “Log in again”.",
        "请确认帐号是否在别处登录，然后点击“重新登录”。",
    ],
    do_put_out_start: [
        "Find out whether the account was logged in elsewhere, then press “Start”.",
        "请确认帐号是否在别处登录，然后点击“启动”。",
    ],
    do_held: ["Look for the cause in the log below, then press “Start”.", "请在下面的日志中查找原因，然后点击“启动”。"],
    do_person: ["Look for the cause in the log below.", "请在下面的日志中查找原因。"],
    do_frozen: ["Thaw it with “systemctl thaw {unit}”.", "可用“systemctl thaw {unit}”解冻。"],
    do_read_only: ["Your access is read-only: ask an administrator to do this.", "您的权限为只读，请联系管理员处理。"],

    // The view of one account.
    all_accounts: ["All accounts", "全部帐号"],
    no_account: ["There is no account “{name}”", "没有名为“{name}”的帐号"],
    no_account_why: ["It was removed, or the address is wrong.", "帐号已被移除，或地址有误。"],
    status: ["Status", "状态"],
    why: ["Why", "原因"],
    what_to_do: ["What to do", "处理办法"],
    next: ["Next", "接下来"],
    next_start: ["It is started again at {time}.", "将于 {time} 重启。"],
    details: ["Details", "详细信息"],
    parameters: ["Parameters", "参数"],
    no_parameters: ["None", "无"],
    fact_machine: ["Machine", "机器"],
    history: ["What happened", "经过"],
    fact_uin: ["Number", "号码"],
    fact_nickname: ["Nickname", "昵称"],
    fact_login: ["Login", "登录状态"],
    fact_program: ["Program", "程序"],
    fact_client: ["Client process", "客户端进程"],
    fact_implementation: ["Program's process", "程序进程"],
    fact_port: ["Port", "端口"],
    fact_unit: ["Unit", "单元"],
    fact_exits: ["Unasked exits", "意外退出"],
    fact_last_exit: ["Last exit", "上次退出"],
    fact_memory: ["Memory", "内存"],
    fact_cpu: ["Processor time", "处理器时间"],
    fact_reports: ["Reports to be sent", "待发送的上报"],
    fact_messages: ["Messages to be sent", "待发送的消息"],
    with_pid: ["{phase}, pid {pid}", "{phase}，pid {pid}"],
    of_at_most: ["{used} of at most {most}", "{used}，最多 {most}"],
    for_time: ["{state}, for {time}", "{state}，已持续 {time}"],
    phase_reserved: ["not started yet", "尚未启动"],
    phase_starting: ["is being started", "正在启动"],
    phase_up: ["runs", "运行中"],
    phase_stopping: ["is being stopped", "正在停止"],
    phase_gone: ["does not run", "未运行"],
    login_starting: ["logging in", "登录中"],
    login_code: ["waits for a scan", "等待扫码"],
    login_confirming: ["waits for the confirmation", "等待确认"],
    login_online: ["online", "在线"],
    login_offline: ["offline", "掉线"],
    login_put_out: ["logged out by the network", "已被下线"],
    login_unknown: ["not known", "未知"],

    // The login code.
    login_code_title: ["Login code", "登录二维码"],
    code_alt: ["Login code of {name}", "{name} 的登录二维码"],
    code_left: ["Valid for another {time}", "剩余有效时间 {time}"],
    code_renewed: ["Renewed by itself", "会自动刷新"],
    code_expired: ["This code has expired. A new one is on its way.", "二维码已过期，正在获取新的。"],
    code_none: ["The next code is on its way.", "正在获取二维码。"],
    scan_link: ["Link for scanning", "扫码链接"],
    scan_link_why: [
        "Send this link to the person with the phone. It shows only this code, and needs no token.",
        "把此链接发给持有手机的人。链接只显示此二维码，不需要令牌。",
    ],
    scan_link_until: ["It works until {time}.", "有效期至 {time}。"],
    copy: ["Copy", "复制"],
    copied: ["Copied", "已复制"],
    copy_failed: ["Not copied. Press Ctrl+C.", "未能复制，请按 Ctrl+C。"],

    // Actions: the button, and the same while it runs.
    start: ["Start", "启动"],
    start_busy: ["Starting…", "正在启动…"],
    stop: ["Stop", "停止"],
    stop_busy: ["Stopping…", "正在停止…"],
    restart: ["Restart", "重启"],
    restart_busy: ["Restarting…", "正在重启…"],
    relogin: ["Log in again", "重新登录"],
    relogin_busy: ["Logging in…", "正在重新登录…"],
    new_login: ["New login…", "全新登录…"],
    new_login_busy: ["Logging in…", "正在登录…"],
    move: ["Move…", "迁移…"],
    move_busy: ["Moving…", "正在迁移…"],
    remove: ["Remove…", "移除…"],
    remove_busy: ["Removing…", "正在移除…"],
    forget: ["Remove with files…", "连同文件删除…"],
    forget_busy: ["Removing…", "正在删除…"],
    actions: ["Actions", "操作"],
    action_failed: ["“{action}” failed: {detail}", "“{action}”失败：{detail}"],
    stop_it_first: ["Stop the account first.", "请先停止帐号。"],
    scan_link_busy: ["Making the link…", "正在生成链接…"],

    // Questions before something is gone.
    ask_new_login: ["Log “{name}” in without its saved login?", "不用已保存的登录，重新登录“{name}”？"],
    ask_new_login_gone: [
        "The saved login of this account is deleted. A person has to scan a new code before it runs again.",
        "此帐号已保存的登录将被删除，需要重新扫码后才能继续运行。",
    ],
    ask_new_login_yes: ["Delete the login, log in anew", "删除登录并重新登录"],
    ask_move: ["Move “{name}” to another machine?", "把“{name}”迁移到另一台机器？"],
    ask_move_stops: [
        "The account is stopped, goes there with all its files, and runs again there. If that fails it stays where it is.",
        "帐号将停止，连同全部文件迁移过去并在那里重新运行；若失败，则留在原处。",
    ],
    ask_move_scan: [
        "The chat network may take the other machine for a new device. Then a person has to scan a code.",
        "聊天网络可能把另一台机器当作新设备，届时需要重新扫码。",
    ],
    ask_move_choice: ["Machine", "机器"],
    ask_move_yes: ["Stop and move", "停止并迁移"],
    ask_remove: ["Remove “{name}” from the list?", "从列表中移除“{name}”？"],
    ask_remove_gone: [
        "The account is stopped and leaves the list. Its parameters are gone from the controller.",
        "帐号将停止并从列表中移除，控制器不再保留它的参数。",
    ],
    ask_remove_kept: [
        "Its files, with the saved login, stay on this machine. Add an account of the same name to use them again.",
        "它的文件和已保存的登录仍留在本机；以后添加同名帐号即可继续使用。",
    ],
    ask_remove_yes: ["Stop and remove", "停止并移除"],
    ask_forget: ["Remove “{name}” with all its files?", "删除“{name}”及其全部文件？"],
    ask_forget_gone: [
        "The account leaves the list. Its parameters, saved login, files and unsent reports on this machine are deleted.",
        "帐号将从列表中移除，它在本机的参数、已保存的登录、文件和尚未发送的上报都会删除。",
    ],
    ask_forget_kept: [
        "This can't be undone. The account on the chat network itself stays as it is.",
        "此操作无法撤销。聊天网络上的帐号本身不受影响。",
    ],
    ask_forget_yes: ["Delete for good", "永久删除"],

    // The log.
    log: ["Log", "日志"],
    log_empty: ["Nothing has been logged yet.", "还没有日志。"],
    log_lost: ["The log is interrupted, trying again…", "日志已中断，正在重试…"],
    log_end: ["Go to the newest", "跳到最新"],
    from_client: ["client", "客户端"],
    from_implementation: ["program", "程序"],
    from_controller: ["controller", "控制器"],
    priority_error: ["error", "错误"],
    priority_warning: ["warning", "警告"],

    // The form for a new account.
    name: ["Name", "名称"],
    name_hint: ["You choose it. Callers of the API use it.", "自定名称，API 调用者用它指代此帐号。"],
    name_empty: ["Enter a name.", "请输入名称。"],
    name_long: [
        "This name is too long: 48 bytes at most, which is 16 Chinese characters.",
        "名称过长：最多 48 字节，即 16 个汉字。",
    ],
    name_signs: ["A name has no slashes and no control characters.", "名称不能包含斜杠和控制字符。"],
    name_taken: ["There is an account of this name already.", "已有同名帐号。"],
    parameters_hint: [
        "Settings of the account, such as “implementation” and “uin”. All are optional.",
        "帐号的设置，例如“implementation”和“uin”，均可不填。",
    ],
    parameter_key: ["Parameter {number}", "参数 {number}"],
    parameter_value: ["Value {number}", "值 {number}"],
    parameter_key_column: ["Key", "参数"],
    parameter_value_column: ["Value", "值"],
    parameter_no_key: ["This value has no parameter.", "此值没有对应的参数名。"],
    parameter_twice: ["The parameter “{key}” is there twice.", "参数“{key}”重复。"],
    add_parameter: ["Add a parameter", "添加参数"],
    remove_parameter: ["Remove parameter {number}", "移除参数 {number}"],
    start_at_once: ["Start it at once", "立即启动"],
    add: ["Add", "添加"],
    adding: ["Adding…", "正在添加…"],

    // The page behind a link for scanning.
    scan_title: ["Log in “{name}”", "登录“{name}”"],
    scan_title_plain: ["Log in an account", "登录帐号"],
    scan_show: ["Show the login code", "显示登录二维码"],
    scan_how: [
        "Have the phone of this account at hand. The code is to be scanned with its chat program.",
        "请准备好此帐号的手机，用聊天软件扫描二维码。",
    ],
    scan_now: ["Scan this code with the chat program on the phone of this account.", "请用此帐号手机上的聊天软件扫描此二维码。"],
    scan_waiting: [
        "There is no code at the moment. One is shown here as soon as it is there.",
        "暂时没有二维码，出现后会显示在这里。",
    ],
    scan_confirming: ["Scanned. Now confirm the login on the phone.", "已扫描，请在手机上确认登录。"],
    scan_done: ["The account is logged in. You can close this page.", "帐号已登录，可以关闭此页面。"],
    scan_ended: ["This link has ended. Ask for a new one.", "此链接已失效，请索取新的链接。"],

    // What happened to an account, by the code of the event.
    event_controller_started: ["The controller was started", "控制器已启动"],
    event_registered: ["It is in the list", "已登记在列表中"],
    event_stop_asked: ["A call stopped it", "被调用停止"],
    event_start_asked: ["It is to run again", "被要求重新运行"],
    event_client_started: ["Its client runs", "客户端进程已运行"],
    event_client_ended: ["Its client has ended", "客户端进程已结束"],
    event_client_held: ["Its client is held", "客户端已结束，不会自动重启"],
    event_client_frozen: ["Its client was frozen", "客户端被冻结"],
    event_implementation_started: ["Its implementation runs", "程序进程已运行"],
    event_implementation_ended: ["Its implementation has ended", "程序进程已结束"],
    event_implementation_held: ["Its implementation is held", "程序已结束，不会自动重启"],
    event_implementation_frozen: ["Its implementation was frozen", "程序被冻结"],
    event_login_starting: ["It logs in", "正在登录"],
    event_needs_scan: ["It waits for its login code to be scanned", "等待扫描登录二维码"],
    event_needs_confirmation: ["Its code was scanned, and waits for a confirmation on the phone", "已扫码，等待在手机上确认"],
    event_online: ["It is logged in", "已登录"],
    event_offline: ["It is offline", "已离线"],
    event_put_out: ["The network ended its login", "登录被网络方终止"],
    event_login_unknown: ["Its implementation does not say whether it is logged in", "程序未说明是否已登录"],
    event_because: ["{event}: {detail}", "{event}：{detail}"],
};

const LANGUAGES = ["en", "zh-CN"];

/** Both languages have to have the same placeholders, or a value would be missing in one. */
function placeholders(text) {
    return (text.match(/\{\w+\}/g) ?? []).sort().join();
}

for (const [key, pair] of Object.entries(TEXTS)) {
    const complete = pair.length === LANGUAGES.length && pair.every((text) => text.trim() !== "");
    if (!complete || placeholders(pair[0]) !== placeholders(pair[1])) throw new Error(`the text ${key} is incomplete`);
}

/** The first language of the user that is here; English if there is none. */
function choose(wanted) {
    for (const language of wanted) {
        if (/^zh\b/i.test(language)) return 1;
        if (/^en\b/i.test(language)) return 0;
    }
    return 0;
}

const column = choose(navigator.languages ?? [navigator.language]);

/** The language of the page. */
export const LANGUAGE = LANGUAGES[column];

document.documentElement.lang = LANGUAGE;

/** A text in the user's language. */
export function t(key, values = {}) {
    const pair = Object.hasOwn(TEXTS, key) ? TEXTS[key] : null;
    if (!pair) throw new Error(`there is no text ${key}`);
    return pair[column].replace(/\{(\w+)\}/g, (_, name) => {
        if (!Object.hasOwn(values, name)) throw new Error(`the text ${key} needs ${name}`);
        return values[name];
    });
}

/** Whether there is a text with this key: the controller may be newer than this page. */
export function has(key) {
    return Object.hasOwn(TEXTS, key);
}
