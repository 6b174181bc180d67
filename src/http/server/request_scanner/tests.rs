use super::*;

/// What is passed on of `text` in pieces of `size`, and how scanning ended. After each head comes the next of
/// `follows`.
fn pass(text: &[u8], size: usize, follows: &[NextBytes]) -> (Vec<u8>, Option<TooLarge>, RequestScanner) {
    let (mut scanner, mut follows) = (RequestScanner::new(200), follows.iter());
    let mut passed = Vec::new();
    for mut piece in text.chunks(size) {
        while !piece.is_empty() {
            let (scanned, stop) = scanner.scan(piece);
            passed.extend_from_slice(&piece[..scanned]);
            piece = &piece[scanned..];
            match stop {
                ScanStop::End => {}
                ScanStop::Encode => {
                    passed.extend(encoded(piece[0]));
                    piece = &piece[1..];
                }
                ScanStop::Head => scanner.follow(*follows.next().unwrap_or(&NextBytes::Content(0))),
                ScanStop::TooLarge(too_large) => return (passed, Some(too_large), scanner),
            }
        }
        if scanner.is_after_head() {
            scanner.follow(*follows.next().unwrap_or(&NextBytes::Content(0)));
        }
    }
    (passed, None, scanner)
}

/// The same as text, which does not depend on how it is cut into pieces.
fn passed(text: &[u8], follows: &[NextBytes]) -> String {
    let (whole, too_large, _) = pass(text, text.len(), follows);
    assert_eq!(too_large, None);
    for size in 1..text.len() {
        assert_eq!(pass(text, size, follows).0, whole, "in pieces of {size}");
    }
    String::from_utf8_lossy(&whole).into_owned()
}

#[test]
fn only_targets_are_percent_encoded() {
    let dirty = "/\"<>`\u{e9}\u{7f}\u{1}?\"<>`";
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nX-{dirty}: {dirty}\r\n\r\n");
    let clean = "/%22%3C%3E%60%C3%A9%7F%01?%22%3C%3E%60";
    let (body, size) = (format!("GET {dirty} HTTP/1.1\r\n\r\n"), head(dirty).len() as u64);
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let text = [&head(dirty), &head(dirty), &head(dirty), &chunked, "\r\n\n", &head(dirty)].concat();
    let expected = [&head(clean), &head(dirty), &head(clean), &chunked, "\r\n\n", &head(clean)].concat();
    assert_eq!(passed(text.as_bytes(), &[NextBytes::Content(size), NextBytes::Chunks]), expected);
    assert_eq!(passed(b"GET /\xc4\xe3 HTTP/1.0\n\nrest", &[]), "GET /%C4%E3 HTTP/1.0\n\nrest");
}

#[test]
fn target_bytes_are_accepted_or_refused_as_by_hyper() {
    for byte in 0..=u8::MAX {
        for target in [[b"/x", &[byte][..]].concat(), [b"/?x", &[byte][..]].concat()] {
            let text = [b"GET ", &target[..], b" HTTP/1.1\r\n\r\n"].concat();
            let (passed, _, scanner) = pass(&text, text.len(), &[]);
            let mut headers = [httparse::EMPTY_HEADER; 1];
            let mut parsed = httparse::Request::new(&mut headers);
            let is_taken = parsed.parse(&passed).is_ok() && parsed.path.unwrap().parse::<http::Uri>().is_ok();
            let is_refused = matches!(byte, 0 | b'\t'..=b'\r' | b' ');
            assert_eq!(is_taken, !is_refused, "{byte:#x}");
            assert_eq!(scanner.is_unknown(), is_refused && byte != b' ', "{byte:#x}");
        }
    }
}

#[test]
fn unknown_framing_passes_unchanged() {
    for (before, follows) in [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", NextBytes::Content(0)),
        ("GET\n", NextBytes::Content(0)),
        ("GET /x\r\n", NextBytes::Content(0)),
        ("GET /x\tHTTP/1.1\r\n\r\n", NextBytes::Content(0)),
        ("GET /x HTTP/1.1\r\n\r\n", NextBytes::Unknown),
        ("POST /x HTTP/1.1\r\n\r\n1;x\r\na\r\n0\r\n\r\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n1 \r\na\r\n0\r\n\r\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n1\na\r\n0\r\n\r\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n1\r\na\n0\r\n\r\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n1\r\nab\r\n0\r\n\r\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n\r\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n0\r\nX: 1\r\n\r\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n0\r\n\n", NextBytes::Chunks),
        ("POST /x HTTP/1.1\r\n\r\n00000000000000000\r\n\r\n", NextBytes::Chunks),
    ] {
        let text = format!("{before}GET /\"é HTTP/1.1\r\n\r\n");
        assert_eq!(passed(text.as_bytes(), &[follows]), text);
        assert!(pass(text.as_bytes(), 7, &[follows]).2.is_unknown(), "{text:?}");
    }
}

#[test]
fn request_head_is_bounded_and_excess_is_named() {
    let too_large = |text: &str| {
        let whole = pass(text.as_bytes(), text.len(), &[]);
        for size in [1, 7, 50] {
            let cut = pass(text.as_bytes(), size, &[]);
            assert_eq!((&cut.0, cut.1), (&whole.0, whole.1), "{text}");
        }
        assert!(whole.0.len() <= 200 || whole.1.is_none());
        whole.1
    };
    let (end, x) = (" HTTP/1.1\r\n\r\n", "x".repeat(200));
    let target = |size: usize| format!("GET /{}{end}", &x[..size - 5 - end.len()]);
    assert_eq!(too_large(&(target(200) + &target(200))), None, "each");
    assert_eq!(too_large(&target(201)), Some(TooLarge::Target));
    assert_eq!(too_large(&format!("GET /{x}{x}")), Some(TooLarge::Target));
    assert_eq!(too_large(&format!("GET /{}{end}", "é".repeat(30))), None);
    assert_eq!(too_large(&format!("GET /{}{end}", "é".repeat(31))), Some(TooLarge::Target), "encoded");
    assert_eq!(too_large(&format!("GET / HTTP/1.1\r\nX: {x}\r\n\r\n")), Some(TooLarge::Headers));
    assert_eq!(too_large(&format!("GET /{} HTTP/1.1\r\nX: {x}", &x[..120])), Some(TooLarge::Target));
    assert_eq!(too_large(&"\r\n".repeat(101)), Some(TooLarge::Headers));
    let many = |count| {
        let text = format!("GET / HTTP/1.1\r\n{}\r\n", "a:\r\n".repeat(count));
        let mut scanner = RequestScanner::new(10_000);
        let stop = scanner.scan(text.as_bytes()).1;
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        assert_eq!(
            httparse::Request::new(&mut headers).parse(text.as_bytes()).is_ok(),
            stop == ScanStop::Head
        );
        stop
    };
    assert_eq!(
        (many(MAX_HEADERS), many(MAX_HEADERS + 1)),
        (ScanStop::Head, ScanStop::TooLarge(TooLarge::Headers))
    );
    let mut scanner = RequestScanner::new(1_000_000);
    assert_eq!(
        scanner.scan(format!("GET /{}", "x".repeat(MAX_TARGET)).as_bytes()).1,
        ScanStop::TooLarge(TooLarge::Target)
    );
}

#[test]
fn duplicate_content_length_is_detected() {
    for (headers, doubled) in [
        ("Content-Length: 1\r\nContent-Length: 1\r\n", true),
        ("content-length:1\nHost: x\nCONTENT-LENGTH:1\n", true),
        ("Content-Length: 1\r\nX: Content-Length: 1\r\n", false),
        ("Content-Length: 1\r\nContent-Length2: 1\r\nContent-Lengt: 1\r\nContent-Length\r\n", false),
        ("X-Content-Length: 1\r\n Content-Length: 1\r\n", false),
        ("", false),
    ] {
        let head = format!("POST / HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
        // Text before and after the name does not count.
        let one = "POST / HTTP/1.1\r\nContent-Length: 4\r\n\r\nbody";
        let text = format!("{one}{head}{one}{one}");
        let content = [4, 0, 4, 4].map(NextBytes::Content);
        for size in 1..text.len() {
            let scanner = pass(text.as_bytes(), size, &content).2;
            assert_eq!(scanner.has_two_lengths(), doubled, "{size}: {headers}");
        }
    }
}
