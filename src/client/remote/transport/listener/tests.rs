use super::*;

#[test]
fn event_signatures_are_verified() {
    // RFC 2202, test case 2 of HMAC-SHA1.
    let (token, body) = (AccessToken::of("Jefe"), b"what do ya want for nothing?");
    let right = "sha1=effcdf6ae5eb2fa2d27416d5f184df9c259a7c79";
    assert!(
        has_valid_signature(right.as_bytes(), body, &token)
            && has_valid_signature(right.to_uppercase().replace("SHA1", "sha1").as_bytes(), body, &token)
    );
    for wrong in [
        "",
        "sha1=",
        "sha256=00",
        &right[5..],
        &right[..43],
        "sha1=zzfcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
        "sha1=+ffcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
    ] {
        assert!(!has_valid_signature(wrong.as_bytes(), body, &token), "{wrong}");
    }
    assert!(!has_valid_signature(right.as_bytes(), b"something else", &token));
}

#[test]
fn header_list_may_have_several_lines() {
    let mut headers = HeaderMap::new();
    for value in ["keep-alive, x", "Upgrade"] {
        headers.append(CONNECTION, HeaderValue::from_static(value));
    }
    assert!(has_word(&headers, CONNECTION, "upgrade") && has_word(&headers, CONNECTION, "X"));
    assert!(!has_word(&headers, CONNECTION, "keep") && !has_word(&headers, UPGRADE, "upgrade"));
}

#[test]
fn socket_role_comes_from_header_or_path() {
    let role = |path: &str, header: Option<&str>| {
        let mut request = Request::get(path);
        if let Some(header) = header {
            request = request.header("X-Client-Role", header);
        }
        SocketRole::of(&request.body(()).unwrap())
    };
    assert_eq!(role("/", None), Some(SocketRole::Universal));
    assert_eq!(role("/onebot/api", None), Some(SocketRole::Api));
    assert_eq!(role("/event/?access_token=x", None), Some(SocketRole::Event));
    assert_eq!(role("/api", Some("Universal")), Some(SocketRole::Universal));
    assert_eq!(role("/", Some("API")), Some(SocketRole::Api));
    assert_eq!(role("/", Some("Event")), Some(SocketRole::Event));
    assert_eq!(role("/", Some("Something")), None);
}

#[test]
fn refusals_are_logged_at_intervals() {
    let (mut refusals, begin) = (RefusalLog::default(), Instant::now());
    assert_eq!(refusals.count(begin), Some(0));
    assert_eq!((refusals.count(begin), refusals.count(begin + REFUSALS_PAUSE / 2)), (None, None));
    assert_eq!(refusals.count(begin + REFUSALS_PAUSE), Some(2));
    assert_eq!(refusals.count(begin + REFUSALS_PAUSE * 2), Some(0));
}

#[test]
fn token_is_accepted_in_header_or_query() {
    let token = AccessToken::of("geheim");
    let shown = |header: Option<&'static str>, query| {
        let mut headers = HeaderMap::new();
        headers.extend(header.map(|value| (AUTHORIZATION, HeaderValue::from_static(value))));
        presents_token(&headers, query, &token)
    };
    assert!(shown(Some("Bearer geheim"), None) && shown(Some("token geheim"), None));
    assert!(shown(None, Some("a=b&access_token=geheim")));
    assert!(!shown(None, None) && !shown(Some("Bearer geheimer"), None) && !shown(Some("geheim"), None));
    assert!(!shown(Some("Basic geheim"), Some("access_token=")));
}
