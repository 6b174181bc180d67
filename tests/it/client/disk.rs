//! Reports on a disk that fills, and under who cleans up.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use rustix::process::{Signal, geteuid};
use tempfile::TempDir;

use super::delivery::{QUICK, Talk, anywhere, next, nobody, receive};
use super::process::{ACCOUNT, Setup, until};

/// A file system of half a MiB that can be filled. None, where none can be mounted.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("mount");
        command.args(["-t", "tmpfs", "-o", "size=512k,mode=700", "none"]).arg(folder.path());
        if geteuid().is_root() && command.status().is_ok_and(|status| status.success()) {
            return Some(Self(folder));
        }
        // Past what holds back the output of a test that is good.
        let _ = writeln!(
            std::io::stderr(),
            "NOT TRIED: reports on a full disk, for which root mounts a small one"
        );
        None
    }

    fn state(&self) -> String {
        self.0.path().join("state").to_str().unwrap().to_owned()
    }

    fn fill(&self) {
        let mut file = File::create(self.0.path().join("full")).unwrap();
        while file.write(&[b'x'; 4096]).is_ok() {}
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.path().join("full")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

#[test]
fn full_disk_keeps_reports_and_takes_the_rest_later() {
    const EACH: usize = 300;
    let Some(disk) = SmallDisk::mount() else { return };
    let away = nobody();
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{away}/"));
    setup.set("STATE_DIRECTORY", &disk.state());
    let mut client = setup.start();
    client.setup.until_state("running");
    let mut talk = Talk::to(&client);
    (0..EACH).for_each(|number| talk.say(&number.to_string()));
    disk.fill();
    (EACH..2 * EACH).for_each(|number| talk.say(&number.to_string()));
    let said = |what: &str| client.setup.log().matches(what).count();
    until("the loss to be said", || (said("dropping reports to ") > 0).then_some(()));
    assert_eq!((said("cannot write reports to disk"), said("written to disk again")), (1, 0));
    disk.empty();
    // Nothing comes any more, and it goes there all the same.
    until("the disk to be used", || (said("reports can be written to disk again") == 1).then_some(()));
    client.signal(Signal::KILL);
    client.until_exit();
    let (_, deliveries) = receive(away, |_, _| Some(("200 OK", String::new())));
    client.start_again();
    let mut numbers = Vec::new();
    while numbers.last() != Some(&(2 * EACH - 1)) {
        let delivery = next(&deliveries);
        if delivery.json["class"] == "send" {
            numbers.push(delivery.json["content"].as_str().unwrap().parse::<usize>().unwrap());
        }
    }
    assert!(numbers.is_sorted_by(|one, next| one < next), "{numbers:?}");
    assert!(numbers[..EACH].iter().copied().eq(0..EACH), "{numbers:?}");
    // A message and its echo each, of which 256 are held.
    let last = &numbers[numbers.len() - 100..];
    assert!(last.iter().copied().eq(2 * EACH - 100..2 * EACH), "{numbers:?}");
    assert!(numbers.len() < 2 * EACH, "{numbers:?}");
}

#[test]
fn full_disk_is_logged_once() {
    let Some(disk) = SmallDisk::mount() else { return };
    let (address, deliveries) = receive(anywhere(), |_, _| Some(("200 OK", String::new())));
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{address}/"));
    setup.set("STATE_DIRECTORY", &disk.state());
    let client = setup.start();
    client.setup.until_state("running");
    let mut talk = Talk::to(&client);
    let begun = std::time::Instant::now();
    talk.say("0");
    for number in 1..200 {
        // Delivered reports are removed; another program takes the room at once.
        disk.fill();
        talk.say(&number.to_string());
    }
    let mut sends = std::iter::repeat_with(|| next(&deliveries)).filter(|got| got.json["class"] == "send");
    for number in 0..200 {
        let text = number.to_string();
        assert_eq!(sends.next().unwrap().json["content"], text);
    }
    let said = |what: &str| client.setup.log().matches(what).count();
    // Once a minute, on a machine that takes so long.
    let most = 1 + usize::try_from(begun.elapsed().as_secs() / 60).unwrap();
    let failures = said("cannot write reports to disk");
    assert!((1..=most).contains(&failures), "{failures} of {most}");
    assert!(said("written to disk again") <= failures);
}

#[test]
fn removed_report_folder_loses_nothing() {
    let away = nobody();
    let mut setup = Setup::new(&QUICK);
    setup.set("POST_API", &format!("http://{away}/"));
    let folder = setup.path(&format!("mojo_webqq_reports_{ACCOUNT}"));
    let mut client = setup.start();
    client.setup.until_state("running");
    let mut talk = Talk::to(&client);
    ["1", "2"].iter().for_each(|text| talk.say(text));
    std::fs::remove_dir_all(&folder).unwrap();
    talk.say("3");
    client.signal(Signal::KILL);
    client.until_exit();
    let (_, deliveries) = receive(away, |_, _| Some(("200 OK", String::new())));
    client.start_again();
    let mut sends = std::iter::repeat_with(|| next(&deliveries)).filter(|got| got.json["class"] == "send");
    assert!(["1", "2", "3"].iter().all(|text| sends.next().unwrap().json["content"] == **text));
    assert!(!client.setup.log().contains("The disk fails"));
}
