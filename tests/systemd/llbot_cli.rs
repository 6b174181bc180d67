//! LLBot's launcher, a real program that is the wrong one to name: it gives node a process group of its own, and ends by signals
//! without asking node to end. tests/run fetches it. What it launches is in no registry, so a script plays the part of node.

use crate::machine::{Machine, Plan, say_not_run, wait_until};

/// Node says its version first, which is to be 24 or newer.
const VERSION: &str = "#!/bin/sh\ncase $1 in -v | --version) echo v24.0.0; exit ;; esac\n";

/// What stands in for node then. Its own child is in a session of its own, where no signal to a group reaches it.
const NODE: &str = "setsid --fork sh -c 'echo pid $$; exec sleep 3600'\necho pid $$\nexec sleep 3600\n";

fn boot() -> Option<Machine> {
    let Some(program) = std::env::var_os("WQCONTROLLER_LLBOT_CLI") else {
        say_not_run("WQCONTROLLER_LLBOT_CLI names no launcher of LLBot; tests/run fetches it with CI=true");
        return None;
    };
    let machine = Plan::new().install(program, "/opt/llbot/llbot", 0o755).boot()?;
    machine.write("/opt/llbot/bin/llbot/llbot.js", "");
    machine.write("/opt/llbot/bin/llbot/package.json", r#"{"name": "llonebot", "version": "8.1.7"}"#);
    machine.write("/opt/llbot/bin/llbot/data/auth_token.txt", "token");
    machine.write(NODE_PROGRAM, &format!("{VERSION}{NODE}"));
    machine.shell(&format!("chmod 755 {NODE_PROGRAM}"));
    machine.configure(
        "[implementations.cli]\nkind = 'command'\ncommand = '/opt/llbot/llbot --qq={uin}'\nurl = 'ws://127.0.0.1:{port}/'\n",
    );
    machine.start_service();
    Some(machine)
}

const NODE_PROGRAM: &str = "/opt/llbot/bin/llbot/node";
const START: [&str; 2] = ["implementation=cli", "uin=123456789"];

impl Machine {
    /// The pids of the latest node and of its child, once it was started `count` times.
    fn nodes(&self, count: usize) -> Vec<String> {
        let mut pids: Vec<String> = vec![];
        wait_until(format!("node was started {count} times"), || {
            let printed = self.journal(&["WQ_CLIENT=a", "--identifier=wqimpl", "--output=cat"]);
            pids = printed.lines().filter_map(|line| Some(line.strip_prefix("pid ")?.to_owned())).collect();
            pids.len() == 2 * count
        });
        pids.split_off(2 * (count - 1))
    }

    fn assert_gone(&self, pids: &[String]) {
        for pid in pids {
            assert!(
                !self.try_run("test", &["-d", &format!("/proc/{pid}")]).status.success(),
                "{pid} is there"
            );
        }
    }
}

#[test]
fn llbot_cli_leaves_nothing_behind() {
    let Some(machine) = boot() else { return };
    machine.start_client("a", &START);
    let first = machine.nodes(1);
    let launcher = machine.main_pid("wqimpl@a").to_string();
    let group = |pid: &str| machine.run("ps", &["--no-headers", "-o", "pgid", pid]);
    for pid in &first {
        assert_ne!(group(pid), group(&launcher), "this is what makes it an orphan");
    }

    // The launcher is killed, and says nothing to node.
    machine.systemctl(&["kill", "--kill-who=main", "--signal=KILL", "wqimpl@a"]);
    let second = machine.nodes(2);
    machine.assert_gone(&first);
    let seen = machine.client("a");
    assert_eq!(seen["implementation"]["last_exit"], "was ended by signal 9", "{seen}");

    assert_eq!(machine.call("stop_client", &["client=a"])["code"], 0);
    machine.assert_gone(&second);
    machine.wait_for_log("a: cli: stopped: exited with status 0");
    assert_eq!(machine.systemctl(&["list-units", "--failed", "--plain", "--no-legend"]), "");
}

#[test]
fn llbot_cli_exits_are_told() {
    let Some(machine) = boot() else { return };
    // Its status is node's, and its last line says so.
    machine.write(NODE_PROGRAM, &format!("{VERSION}echo 'no signatures' >&2\nexit 7\n"));
    machine.start_client("a", &START);
    let seen = machine.wait_for_client("a", "node has ended", |client| {
        client["implementation"]["last_exit"] == "exited with status 7"
    });
    println!("{}", seen["implementation"]);
    machine.call("stop_client", &["client=a"]);

    machine.shell(": >/opt/llbot/bin/llbot/data/auth_token.txt");
    machine.start_client("a", &START);
    let seen = machine.wait_for_client("a", "it misses the token", |client| {
        client["implementation"]["last_exit"] == "exited with status 1"
    });
    println!("{}", seen["implementation"]);
    let journal = machine.journal(&["WQ_CLIENT=a", "--identifier=wqimpl", "--output=cat"]);
    assert!(journal.contains("错误: 没有 Auth Token"), "{journal}");
    machine.call("stop_client", &["client=a"]);

    // Without what it launches it wants to fetch that.
    machine.shell("rm -r /opt/llbot/bin");
    machine.start_client("a", &START);
    wait_until("it can fetch nothing", || {
        let journal = machine.journal(&["WQ_CLIENT=a", "--identifier=wqimpl", "--output=cat"]);
        journal.contains("自动安装组件失败: 无法获取 llonebot-dist 的包信息")
    });
    let seen = machine.client("a");
    assert_eq!(seen["state"], "loading", "{seen}");
}

#[test]
fn llbot_cli_as_child_process_leaves_nothing_behind() {
    let Some(machine) = boot() else { return };
    machine.write("/etc/wqcontroller/wqcontroller.toml.d/60-direct.toml", "[supervisor]\nmode = 'direct'\n");
    machine.systemctl(&["restart", crate::service::UNIT]);
    machine.start_client("a", &START);
    let nodes = || {
        let found = machine.try_run("pgrep", &["--full", "^sleep 3600"]);
        String::from_utf8_lossy(&found.stdout).split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    wait_until("node and its child are there", || nodes().len() == 2);
    let first = nodes();
    let launcher = machine.client("a")["implementation"]["pid"].to_string();
    machine.run("kill", &["-KILL", &launcher]);
    let seen = machine.wait_for_client("a", "started again", |client| {
        client["implementation"]["phase"] == "up" && client["implementation"]["exits"] == 1
    });
    machine.assert_gone(&first);
    assert_eq!(seen["implementation"]["last_exit"], "was ended by signal 9", "{seen}");
    assert_eq!(machine.call("stop_client", &["client=a"])["code"], 0);
    assert_eq!(nodes(), Vec::<String>::new());
}
