//! Conversations do not wait for each other: slow answers, timeouts, and queues of other versions.

use std::fs;
use std::io::{BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::Signal;

use super::delivery::{Delivery, QUICK, anywhere, next, nobody, read_report, receive, words};
use super::process::{ACCOUNT, Client, Setup, until};

fn taken(stream: &mut TcpStream) {
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
}

/// A receiver that serves each connection by itself. To reports for which `hangs` it never says anything.
fn receive_at_once(
    address: SocketAddr,
    hangs: impl Fn(&Delivery) -> bool + Clone + Send + 'static,
) -> (SocketAddr, Receiver<Delivery>) {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, deliveries): (Sender<Delivery>, _) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let (sender, hangs) = (sender.clone(), hangs.clone());
            std::thread::spawn(move || {
                let mut reader = BufReader::new(stream.unwrap());
                while let Some(delivery) = read_report(&mut reader) {
                    let is_hanging = hangs(&delivery);
                    if sender.send(delivery).is_err() {
                        return;
                    }
                    if !is_hanging {
                        taken(reader.get_mut());
                    }
                }
            });
        }
    });
    (address, deliveries)
}

fn say(client: &Client, friend: &str, text: &str) {
    let sent = client.get(&format!("/openqq/send_friend_message?uid={friend}&content={text}"));
    assert_eq!(sent.json()["code"], 0);
}

fn is_slow(delivery: &Delivery) -> bool {
    words(&delivery.json) == "send slow"
}

/// What came, until the last of those that are wanted; in order.
fn until_words(deliveries: &Receiver<Delivery>, last: &str) -> Vec<(String, u32)> {
    let mut all = Vec::new();
    while all.last().is_none_or(|(words, _)| words != last) {
        let delivery = next(deliveries);
        all.push((words(&delivery.json), delivery.attempt));
    }
    all
}

#[test]
fn slow_answer_delays_only_its_own_conversation() {
    let (address, deliveries) = receive_at_once(anywhere(), is_slow);
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    setup.set("POST_TIMEOUT", "1");
    let client = setup.start();
    client.setup.until_state("running");
    say(&client, "10001", "slow");
    let slow = next(&deliveries);
    assert!(is_slow(&slow));
    say(&client, "10001", "behind");
    say(&client, "10002", "other");
    let all = until_words(&deliveries, "recv behind");
    let at = |words: &str| all.iter().position(|(got, _)| got == words).unwrap();
    // The first attempt was taken out above.
    let attempts: Vec<_> = all.iter().filter(|(words, _)| words == "send slow").map(|(_, n)| *n).collect();
    assert_eq!(attempts, [2, 3, 4], "{all:?}");
    assert!(all.iter().rposition(|(words, _)| words == "send slow").unwrap() < at("send behind"), "{all:?}");
    assert!(at("send other") < at("recv slow") && at("recv other") < at("recv slow"), "{all:?}");
    let log = client.setup.log();
    let given_up: Vec<_> = log.lines().filter(|line| line.contains("gave up report ")).collect();
    assert!(given_up.len() == 1 && given_up[0].contains(&slow.id), "{log}");
}

#[test]
fn kill_repeats_only_the_report_under_way() {
    let away = nobody();
    let (_, deliveries) = receive_at_once(away, |delivery| is_slow(delivery) && delivery.attempt == 1);
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{away}/"));
    setup.set("LOG_LEVEL", "debug");
    setup.set("POST_TIMEOUT", "30");
    let mut client = setup.start();
    client.setup.until_state("running");
    say(&client, "10001", "slow");
    let slow = next(&deliveries);
    ["1", "2", "3"].iter().for_each(|text| say(&client, "10002", text));
    say(&client, "10001", "behind");
    // Each, and what came back, in the client's own view.
    until("six to be posted", || {
        (client.setup.log().matches(" delivered (attempt ").count() == 6).then_some(())
    });
    // What comes back to a message may be later than six others are posted.
    until("what came back", || {
        (client.setup.log().matches("received from 10001").count() == 2).then_some(())
    });
    client.signal(Signal::KILL);
    client.until_exit();
    let overtook = until_words(&deliveries, "recv 3");
    assert!(overtook.iter().all(|(_, attempt)| *attempt == 1), "{overtook:?}");
    client.start_again();
    let again = next(&deliveries);
    assert_eq!((&again.id, again.attempt), (&slow.id, 2));
    let rest = until_words(&deliveries, "recv behind");
    let expected = ["recv slow", "send behind", "recv behind"].map(|words| (words.to_owned(), 1));
    // What comes back to the first may come after the second was said.
    assert!(rest.len() == 3 && expected.iter().all(|one| rest.contains(one)), "{rest:?}");
}

#[test]
fn idle_connection_does_not_block_a_serial_receiver() {
    let listener = TcpListener::bind(anywhere()).unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, deliveries) = channel();
    std::thread::spawn(move || {
        let mut count = 0;
        loop {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream);
            while let Some(delivery) = read_report(&mut reader) {
                if count == 0 {
                    // So slow that another connection waits behind this one.
                    poll(&mut [PollFd::new(&listener, PollFlags::IN)], None).unwrap();
                }
                count += 1;
                taken(reader.get_mut());
                if sender.send(delivery).is_err() {
                    return;
                }
            }
        }
    });
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    setup.set("POST_TIMEOUT", "5");
    let client = setup.start();
    client.setup.until_state("running");
    say(&client, "10001", "slow");
    say(&client, "10002", "other");
    let all = until_words(&deliveries, "recv other");
    assert!(all.iter().all(|(_, attempt)| *attempt == 1), "{all:?}");
    assert!(!client.setup.log().contains("not answered"), "{}", client.setup.log());
}

fn queue(state: &Path) -> PathBuf {
    let folder = state.join(format!("mojo_webqq_reports_{ACCOUNT}"));
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

#[test]
fn queue_of_0_1_0_is_delivered_in_order_after_an_upgrade() {
    let (address, deliveries) = receive(anywhere(), |_, _| Some(("200 OK", String::new())));
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    let folder = queue(setup.folder.path());
    // Written by 0.1.0: of six messages the first was delivered and the second posted 33 times.
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/client/queue-0.1.0");
    for name in ["cursor", "0000000000000001.reports"] {
        fs::copy(fixture.join(name), folder.join(name)).unwrap();
    }
    let mut client = setup.start();
    let all = until_words(&deliveries, "recv three");
    let expected = [("send two", 34), ("recv one", 1), ("recv two", 1), ("send three", 1), ("recv three", 1)];
    assert!(all.iter().map(|(words, attempt)| (words.as_str(), *attempt)).eq(expected), "{all:?}");
    client.setup.until_state("running");
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(15));
    assert!(!folder.exists());
}

#[test]
fn queue_of_a_later_version_is_refused_and_kept() {
    let (address, deliveries) = receive(anywhere(), |_, _| Some(("200 OK", String::new())));
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    let folder = queue(setup.folder.path());
    let later = b"wq-reports\0\0\0\0\0\x03what a later version knows";
    let path = folder.join("0000000000000001.reports");
    fs::write(&path, later).unwrap();
    let mut client = setup.start();
    client.setup.until_state("running");
    say(&client, "10001", "new");
    until_words(&deliveries, "send new");
    client.signal(Signal::TERM);
    assert_eq!(client.until_exit().signal(), Some(15));
    assert_eq!(fs::read(&path).unwrap(), later);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 1);
    let log = client.setup.log();
    assert!(log.contains("was written by a later version of wqcontroller"), "{log}");
    assert!(log.contains(path.to_str().unwrap()), "{log}");
}

#[test]
fn absent_host_is_not_a_slow_answer() {
    // Its queue of connections is full: the kernel lets further ones wait.
    let listener =
        rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None).unwrap();
    rustix::net::bind(&listener, &anywhere()).unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address: SocketAddr = rustix::net::getsockname(&listener).unwrap().try_into().unwrap();
    let fill: Vec<_> = (0..4)
        .map(|_| {
            std::thread::spawn(move || TcpStream::connect_timeout(&address, Duration::from_secs(1)).ok())
        })
        .collect();
    let held: Vec<_> = fill.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(held.iter().any(Option::is_none), "the queue is not full");
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    setup.set("POST_TIMEOUT", "0.2");
    let client = setup.start();
    client.setup.until_state("running");
    say(&client, "10001", "waits");
    until("the log line", || client.setup.log().contains("cannot deliver reports to ").then_some(()));
    assert!(!client.setup.log().contains("not answered"), "{}", client.setup.log());
}
