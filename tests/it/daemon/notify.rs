//! What a service manager is told, word for word. What it makes of that is tested on machines with one.

use std::os::unix::net::UnixDatagram;

use rustix::process::Signal;

use crate::fixture::{Builder, Controller, PATIENCE};

/// In the place of a service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// A controller that is told to report to it.
    fn controller(more: &[(&str, &str)]) -> (Self, Controller) {
        let mut builder = Builder::new()
            .config("http.drain_timeout = 3\nsupervisor.stop_timeout = 2\nsupervisor.mode = \"direct\"");
        let path = builder.path("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        builder = builder.env("NOTIFY_SOCKET", path.to_str().unwrap());
        for (name, value) in more {
            builder = builder.env(name, value);
        }
        (Self(socket), builder.start())
    }

    /// The next message.
    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.0.recv(&mut message).expect("nothing more was said");
        String::from_utf8(message[..length].to_vec()).unwrap()
    }

    /// Fills its queue.
    fn fill(&self) {
        let other = UnixDatagram::unbound().unwrap();
        other.set_nonblocking(true).unwrap();
        let address = self.0.local_addr().unwrap();
        while other.send_to_addr(b"STATUS=full\n", &address).is_ok() {}
    }

    /// The next message that is not about how it goes: those lines come when they come.
    fn next_word(&self) -> String {
        loop {
            let message = self.next();
            if !message.starts_with("STATUS=") {
                return message;
            }
        }
    }
}

#[test]
fn each_step_of_its_life() {
    let (manager, mut controller) = Manager::controller(&[]);
    assert_eq!(manager.next(), "EXTEND_TIMEOUT_USEC=30000000\n", "clients may be many");
    let ready = "READY=1\nSTATUS=no clients; child processes\n";
    assert_eq!(manager.next_word(), ready);
    for config in [controller.read_config(), "nonsense = 1".to_owned()] {
        controller.write_config(&config);
        controller.signal(Signal::HUP);
        let reloading = manager.next_word();
        let moment = reloading.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().trim_end();
        assert!(moment.parse::<u64>().unwrap() > 0, "{reloading}");
        let again = manager.next_word();
        match config.starts_with("nonsense") {
            true => assert!(again.starts_with("READY=1\n") && again.contains("was refused"), "{again}"),
            false => assert_eq!(again, ready),
        }
    }
    assert_eq!(controller.end().code(), Some(0));
    // 3 s for requests, 2 s for clients, and 15 s.
    assert_eq!(manager.next_word(), "STOPPING=1\nEXTEND_TIMEOUT_USEC=20000000\n");
}

#[test]
fn it_beats_when_it_is_asked_to() {
    let (manager, _controller) = Manager::controller(&[("WATCHDOG_USEC", "20000")]);
    while !manager.next_word().starts_with("READY=1") {}
    for _ in 0..3 {
        assert_eq!(manager.next_word(), "WATCHDOG=1\n");
    }
}

#[test]
fn service_manager_that_takes_no_messages_holds_up_nothing() {
    let (manager, mut controller) = Manager::controller(&[("WATCHDOG_USEC", "20000")]);
    while !manager.next_word().starts_with("WATCHDOG=1") {}
    manager.fill();
    // Nothing of this is heard.
    controller.start_client("a");
    controller.reload();
    controller.start_client("b");
    assert_eq!(controller.end().code(), Some(0));
}

#[test]
fn a_client_cannot_speak_for_the_controller() {
    let (_manager, controller) = Manager::controller(&[("WATCHDOG_USEC", "60000000")]);
    let reply = controller.start_client("a");
    let environment = std::fs::read_to_string(format!("/proc/{}/environ", reply["pid"])).unwrap();
    assert!(!environment.contains("NOTIFY_SOCKET") && !environment.contains("WATCHDOG"), "{environment}");
}
