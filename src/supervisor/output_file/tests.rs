//! Floods, marks, links, and which files are looked into.

use super::*;
use std::fs;
use std::io::Write;

fn name() -> OutputSource {
    OutputSource::client(crate::model::name::ClientName::new("a").unwrap())
}

#[tokio::test]
async fn large_output_file_is_emptied_and_keeps_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output.log");
    let files = OutputFiles::new();
    let file = files.open(&path, name()).unwrap();
    let mut writer = file.handle().unwrap();
    writer.write_all(b"small\n").unwrap();
    file.look().unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "small\n");

    let flood = [b"x".repeat(usize::try_from(MAX_BYTES).unwrap()), b"the end\n".to_vec()].concat();
    writer.write_all(&flood).unwrap();
    file.look().unwrap();
    writer.write_all(b"goes on\n").unwrap();
    assert_eq!(fs::read_to_string(&path).unwrap(), "goes on\n");
    let old = fs::read(folder.path().join("output.log.old")).unwrap();
    assert_eq!(old.len() as u64, KEPT_BYTES);
    assert!(old.ends_with(b"xthe end\n"));
    file.look().unwrap();
    assert_eq!(file.reading().position, 8, "it is read from its new beginning");
}

#[tokio::test]
async fn output_file_continues_at_the_mark() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output.log");
    fs::write(&path, "from before it was marked\n").unwrap();
    let begin = 26;
    let next = || {
        let files = OutputFiles::new();
        let file = files.open(&path, name()).unwrap();
        // Only what is asked for here is read.
        drop(files);
        file
    };
    let first = next();
    assert_eq!(first.reading().position, begin);
    first.handle().unwrap().write_all(b"one\nhalf").unwrap();
    first.look().unwrap();
    assert_eq!(first.reading().position, begin + 8);
    assert_eq!(first.reading().lines.waiting(), 4);
    drop(first);
    assert_eq!(read_mark(&File::open(beside(&path, ".read")).unwrap()), Some(begin + 4));

    let second = next();
    assert_eq!(second.reading().lines.waiting(), 4, "it begins with the same line");
    second.log_rest();
    drop(second);
    assert_eq!(read_mark(&File::open(beside(&path, ".read")).unwrap()), Some(begin + 8));
    // Another file by now, or no mark at all.
    fs::write(&path, "").unwrap();
    assert_eq!(next().reading().position, 0);
    fs::write(beside(&path, ".read"), "nonsense").unwrap();
    assert_eq!(next().reading().position, 0);
}

#[tokio::test]
async fn output_file_does_not_follow_links() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output.log");
    std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
    assert!(OutputFiles::new().open(&path, name()).is_err());
    fs::remove_file(&path).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", beside(&path, ".read")).unwrap();
    assert!(OutputFiles::new().open(&path, name()).is_err());
}

#[tokio::test(start_paused = true)]
async fn output_files_are_read_periodically() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("output.log");
    let files = OutputFiles::new();
    let file = files.open(&path, name()).unwrap();
    file.handle().unwrap().set_len(MAX_BYTES + 1).unwrap();
    // A paused clock goes on whenever everybody waits.
    while fs::metadata(&path).unwrap().len() > 0 {
        tokio::time::sleep(INTERVAL).await;
    }
    drop(file);
    tokio::time::sleep(2 * INTERVAL).await;
    assert!(locked(&files.table).open.is_empty(), "nobody has it any more");
}

#[tokio::test]
async fn only_changed_output_files_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let files = OutputFiles::new();
    // Only what is asked for here is looked at.
    files._reader.abort();
    let path = |name: &str| folder.path().join(name);
    let [a, b] = ["a", "b"].map(|file| files.open(&path(file), name()).unwrap());
    let due =
        || -> Vec<PathBuf> { locked(&files.table).due().iter().map(|file| file.path.clone()).collect() };
    assert!(due().is_empty());
    a.handle().unwrap().write_all(b"x\n").unwrap();
    assert_eq!((due(), due()), (vec![path("a")], vec![]));
    // The next launch of the same client has it before the last one gives it up.
    let next = files.open(&path("a"), name()).unwrap();
    drop(a);
    assert!(due().is_empty());
    next.handle().unwrap().write_all(b"y\n").unwrap();
    assert_eq!(due(), [path("a")]);
    // What can't be watched is looked into always.
    locked(&files.table).inotify = None;
    let c = files.open(&path("c"), name()).unwrap();
    assert_eq!((due().len(), due().len()), (3, 3));
    drop((b, c, next));
    assert!(due().is_empty());
}

#[tokio::test]
async fn large_output_is_read_to_the_end_without_further_writes() {
    let folder = tempfile::tempdir().unwrap();
    let file = OutputFiles::new().open(&folder.path().join("a"), name()).unwrap();
    let flood = b"x\n".repeat(usize::try_from(MAX_READ).unwrap());
    file.handle().unwrap().write_all(&flood).unwrap();
    assert!(!file.look().unwrap(), "half of it is left");
    assert!(!file.look().unwrap(), "what was left out is not said yet");
    assert_eq!(file.reading().position, 2 * MAX_READ);
    file.handle().unwrap().set_len(0).unwrap();
    file.log_rest();
    assert!(file.look().unwrap());
}
