use super::*;
use crate::wire::calls::{CLIENT_CALLS, CONTROLLER_CALLS, CallAccess};
use http::Method;

const KEY: &str = "0123456789abcdef";
const EYE: &str = "fedcba9876543210";
const TCP: ListenerKind = ListenerKind::Tcp;

fn guard(with_tokens: bool) -> Guard {
    let tokens = [("key", KEY, Access::ReadWrite), ("eye", EYE, Access::ReadOnly)];
    let tokens = if with_tokens { Tokens::of(tokens) } else { Tokens::default() };
    Guard::new(&Settings::default(), tokens, Arc::default(), false)
}

fn request(target: &str, headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::get(target).body(()).unwrap();
    for (name, value) in headers {
        let name: http::HeaderName = name.parse().unwrap();
        request.headers_mut().append(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// What remains of a request that is let in, or why it is not.
fn admitted(target: &str, headers: &[(&str, &str)], listener_kind: ListenerKind) -> Result<String, Refusal> {
    let mut request = request(target, headers);
    let decided = guard(true).admit(&mut request, listener_kind);
    let left = format!("{} {:?}", request.uri(), request.headers());
    assert!(!left.contains(KEY) && !left.contains(EYE), "{left}");
    assert!(!request.headers().contains_key(AUTHORIZATION));
    decided.map(|_| request.uri().to_string())
}

#[test]
fn token_admits_and_is_removed_from_request() {
    let bearer = format!("Bearer {KEY}");
    for (target, header, rest) in [
        (format!("/openqq/x?token={KEY}"), None, "/openqq/x"),
        (format!("/openqq/x?a=%ff&token={KEY}&b=1"), None, "/openqq/x?a=%ff&b=1"),
        (format!("/openqq/x?%74oken={KEY}"), None, "/openqq/x"),
        (format!("/openqq/x?tok%65n=%30{}", &KEY[1..]), None, "/openqq/x"),
        ("/openqq/x?a".into(), Some(bearer.clone()), "/openqq/x?a"),
        ("/openqq/x".into(), Some(format!("bEARER  {KEY} ")), "/openqq/x"),
        (format!("/openqq/x?token={KEY}"), Some(bearer.clone()), "/openqq/x"),
        (format!("/openqq/x?token={KEY}"), Some("Basic bWU6bWU=".into()), "/openqq/x"),
        ("/openqq/x?token=".into(), Some(bearer), "/openqq/x"),
        (format!("http://localhost/openqq/x?token={KEY}"), None, "/openqq/x"),
    ] {
        let mut headers = vec![("referer", format!("http://localhost/?token={KEY}"))];
        headers.extend(header.map(|header| ("authorization", header)));
        let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(admitted(&target, &headers, TCP), Ok(rest.to_owned()), "{target} {headers:?}");
    }
}

#[test]
fn wrong_or_missing_token_is_refused() {
    let (one, other) = (format!("Bearer {KEY}"), format!("Bearer {EYE}"));
    let authorization = |value: &'static str| vec![("authorization", value)];
    for (target, headers, why) in [
        ("/openqq/x", vec![], Refusal::NoToken),
        ("/", vec![], Refusal::NoToken),
        ("/openqq/x?token=", vec![], Refusal::NoToken),
        ("/openqq/x?Token=0123456789abcde0", vec![], Refusal::NoToken),
        ("/openqq/x", authorization("Basic MDEyMzQ1Njc4OWFiY2RlZg=="), Refusal::NoToken),
        ("/openqq/x", authorization("Bearer"), Refusal::NoToken),
        ("/openqq/x", authorization("Bearer:0123456789abcde0"), Refusal::NoToken),
        ("/openqq/x", authorization("Bearer 0123456789abcde"), Refusal::UnknownToken),
        ("/openqq/x", authorization("Bearer 0123456789abcdef0"), Refusal::UnknownToken),
        ("/openqq/x", authorization("Bearer 0123456789ABCDEF"), Refusal::UnknownToken),
        ("/openqq/x?token=%00", vec![], Refusal::UnknownToken),
        (
            "/openqq/x?token=x",
            vec![("authorization", one.as_str())],
            Refusal::MalformedToken("the token in the query is not the one in the header"),
        ),
        (
            "/openqq/x?token=%ff",
            vec![("authorization", &one)],
            Refusal::MalformedToken("the parameter token is not text"),
        ),
        (
            "/openqq/x?token=a&%74oken=b",
            vec![("authorization", &one)],
            Refusal::MalformedToken("the parameter token is given twice"),
        ),
        (
            "/openqq/x",
            vec![("authorization", &one), ("authorization", &other)],
            Refusal::MalformedToken("there are two Authorization headers"),
        ),
        (
            "/openqq/x",
            vec![("authorization", &one), ("authorization", &one)],
            Refusal::MalformedToken("there are two Authorization headers"),
        ),
    ] {
        assert_eq!(admitted(target, &headers, TCP), Err(why), "{target} {headers:?}");
    }
    let long = format!("/openqq/x?token={}", "x".repeat(10_000));
    assert_eq!(admitted(&long, &[], TCP), Err(Refusal::UnknownToken));
}

#[test]
fn read_only_token_opens_reading_calls_only() {
    let decide = |method: &Method, path: &str| {
        let mut request = request(&format!("{path}?token={EYE}&client=a"), &[]);
        *request.method_mut() = method.clone();
        guard(true).admit(&mut request, TCP).map(drop)
    };
    let own = CONTROLLER_CALLS.iter().map(|call| (call.name, call.access));
    let all = own.chain(CLIENT_CALLS.iter().map(|call| (call.name, call.access)));
    for (call, _) in all.filter(|(_, access)| *access == CallAccess::Read) {
        let path = format!("/openqq/{call}");
        assert_eq!(decide(&Method::GET, &path), Ok(()), "{path}");
        assert_eq!(decide(&Method::HEAD, &path), Ok(()), "{path}");
        assert!(decide(&Method::POST, &path).is_err() && decide(&Method::OPTIONS, &path).is_err());
    }
    for path in [
        "/openqq/start_client",
        "/openqq/stop_client",
        "/openqq/send_friend_message",
        "/openqq/relogin",
        "/openqq/kick_group_member",
        "/openqq/",
        "/openqq/get_user_info/",
        "/openqq/get_user_info/../stop_client",
        "/openqq/%67et_user_info",
        "/openqq//get_user_info",
        "/openqq/./get_user_info",
        "/openqq/x/../get_user_info",
        "/openqq/get_user_info;x",
        "/openqq/get_user_info%20",
        "/openqq/get_user_info%00",
        "/openqq/get_user_info%2f..%2fstop_client",
        "/openqq/GET_USER_INFO",
        "//openqq/get_user_info",
        "/get_user_info",
        "/",
    ] {
        assert_eq!(decide(&Method::GET, path), Err(Refusal::ReadOnly("eye".into())), "{path}");
    }
}

#[test]
fn read_only_token_refuses_body() {
    let with = |name: &str, value: &str| {
        let target = format!("/openqq/get_user_info?token={EYE}");
        guard(true).admit(&mut request(&target, &[(name, value)]), TCP).map(drop)
    };
    assert_eq!(with("content-length", "0"), Ok(()));
    for (name, value) in [("content-length", "1"), ("content-length", "00"), ("transfer-encoding", "chunked")]
    {
        assert_eq!(with(name, value), Err(Refusal::ReadOnly("eye".into())), "{name}: {value}");
    }
}

#[test]
fn unix_socket_needs_token_only_if_configured() {
    let file = ListenerKind::Unix { require_token: false };
    let (bearer, foreign) = (format!("Bearer {KEY}"), [("host", "anything at all")]);
    assert_eq!(admitted("/openqq/x", &foreign, file), Ok("/openqq/x".into()));
    // A token is ours here too, so it is removed.
    assert_eq!(
        admitted(&format!("/openqq/x?token={KEY}"), &[("authorization", &bearer)], file),
        Ok("/openqq/x".into())
    );
    let twice = admitted("/openqq/x?token=a&token=b&c=1", &[], file);
    assert_eq!(twice, Err(Refusal::MalformedToken("the parameter token is given twice")));
    let token = ListenerKind::Unix { require_token: true };
    assert_eq!(admitted("/openqq/x", &foreign, token), Err(Refusal::NoToken));
    assert_eq!(admitted("/openqq/x", &[("authorization", &bearer)], token), Ok("/openqq/x".into()));
    let page = [("sec-fetch-site", "cross-site")];
    assert_eq!(admitted("/openqq/x", &page, file), Err(Refusal::Site("cross-site".into())));
}

#[test]
fn without_tokens_request_is_unchanged() {
    let headers =
        [("authorization", "Basic x"), ("referer", "http://h/?token=x"), ("host", "127.0.0.1:4000")];
    let mut touched = request("/openqq/x?token=a&token=b", &headers);
    let before = format!("{touched:?}");
    guard(false).admit(&mut touched, TCP).unwrap();
    assert_eq!(format!("{touched:?}"), before);
}

#[test]
fn foreign_host_is_refused_before_token_check() {
    let foreign = [("host", "evil.example"), ("sec-fetch-site", "same-origin")];
    assert_eq!(admitted("/openqq/x", &foreign, TCP), Err(Refusal::Host("evil.example".into())));
    // A name in the log can't break or reverse a line.
    let odd = [("host", "b\u{e9} \u{202e}\u{2028}\u{200b}")];
    assert_eq!(admitted("/openqq/x", &odd, TCP), Err(Refusal::Host("b\u{e9} ???".into())));
    let page = [("host", "localhost"), ("origin", "https://evil.example")];
    assert_eq!(admitted("/openqq/x", &page, TCP), Err(Refusal::Site("https://evil.example".into())));
}
