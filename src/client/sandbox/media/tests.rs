use super::*;

const PNG: &[u8] = b"\x89PNG\r\n\x1a\nx";

fn store() -> (MediaStore, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    (MediaStore::new(folder.path().join("files"), 5000), folder)
}

#[tokio::test]
async fn files_are_taken_in_all_forms() {
    let (store, folder) = store();
    let text = base64::engine::general_purpose::STANDARD.encode(PNG);
    let kept = store.take(&format!("base64://{text}")).await.unwrap();
    assert!(kept.name.ends_with(".png") && kept.url == format!("http://127.0.0.1:5000{PATH}{}", kept.name));
    let path = folder.path().join("a b.png");
    std::fs::write(&path, PNG).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let given = format!("file://{}", path.display()).replace(' ', "%20");
    assert_eq!(store.take(&given).await, Ok(kept.clone()));
    assert_eq!(store.take(path.to_str().unwrap()).await, Ok(kept.clone()));
    let (hash, _) = kept.name.split_once('.').unwrap();
    for name in [hash, &kept.name] {
        assert_eq!(store.take(name).await, Ok(kept.clone()));
        assert_eq!(store.read(name).await.unwrap(), (kept.clone(), PNG.to_vec()));
    }
    // A later run finds it.
    let later = MediaStore::new(folder.path().join("files"), 5000);
    assert_eq!(later.find(hash).await, Some(kept));
}

#[tokio::test]
async fn what_is_secret_or_no_file_is_not_taken() {
    let (store, folder) = store();
    let path = folder.path().join("secret");
    std::fs::write(&path, "token").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let said = store.take(&format!("file://{}", path.display())).await.unwrap_err();
    assert!(said.contains("not every user"), "{said}");
    assert!(store.take("file:///proc/self/environ").await.is_err());
    let large = format!("base64://{}", "A".repeat(MAX_FILE / 3 * 4 + 5));
    assert_eq!(store.take(&large).await, Err(too_large()));
    for wrong in
        ["", "../secret", "base64://", "base64://?", "x.png", "file:///", "http://127.0.0.1:1/x?token=hush"]
    {
        let said = store.take(wrong).await.unwrap_err();
        assert!(!said.contains("hush"), "{said}");
    }
}

#[tokio::test]
async fn oldest_files_go() {
    let (store, _folder) = store();
    let mut names = Vec::new();
    for n in 0..=MAX_FILES {
        names.push(store.keep(n.to_string().into_bytes()).await.unwrap().name);
        // Used again and again.
        store.keep(b"0".to_vec()).await.unwrap();
    }
    assert!(store.find(&names[0]).await.is_some() && store.find(&names[1]).await.is_none());
    let on_disk = || std::fs::read_dir(&*store.folder).unwrap().count();
    assert_eq!(on_disk(), MAX_FILES);
    for n in 0..8_u8 {
        store.keep(vec![n; MAX_FILE]).await.unwrap();
    }
    let bytes: u64 = locked(&store.kept).files.iter().map(|(_, size)| size).sum();
    assert!(bytes <= MAX_BYTES && on_disk() == locked(&store.kept).files.len());
    store.clean(|_| false).await;
    assert_eq!(on_disk(), 0);
}

#[test]
fn types_are_told_by_content() {
    assert_eq!((ending(PNG), ending(b"RIFF1234WEBPx"), ending(b"<html>")), ("png", "webp", "bin"));
    assert_eq!(
        (type_of("a.jpg"), type_of("a.html"), type_of("a")),
        ("image/jpeg", "application/octet-stream", "application/octet-stream")
    );
}

#[tokio::test]
async fn files_are_fetched_up_to_a_limit() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (store, _folder) = store();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/a.png?token=hush", listener.local_addr().unwrap());
    let server = tokio::spawn(async move {
        for (status, length) in [("200 OK", PNG.len()), ("404 Not Found", 1), ("200 OK", MAX_FILE + 1)] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await.unwrap();
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
            let body = [PNG, &vec![0; length.saturating_sub(PNG.len())]].concat();
            // The client hangs up at what is too large.
            let _ = stream.write_all(&[head.as_bytes(), &body[..length]].concat()).await;
        }
    });
    assert_eq!(store.take(&url).await, store.keep(PNG.to_vec()).await);
    let said = store.take(&url).await.unwrap_err();
    assert!(said.contains("404") && !said.contains("hush"), "{said}");
    assert_eq!(store.take(&url).await, Err(too_large()));
    server.await.unwrap();
}
