//! What a request shows of whose it is: account, token, signature.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::client::remote::transport::token::AccessToken;

/// The account of a request (`X-Self-ID`).
pub(super) fn account(headers: &HeaderMap) -> Option<u64> {
    headers.get("x-self-id")?.to_str().ok()?.trim().parse().ok()
}

/// Whether a request presents the token: `Authorization: Bearer TOKEN` (some write `Token`), or `access_token`
/// in the query.
pub(super) fn presents_token(headers: &HeaderMap, query: Option<&str>, token: &AccessToken) -> bool {
    let header = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let in_header = header.and_then(|value| {
        let (scheme, shown) = value.split_once(' ')?;
        (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"))
            .then_some(shown.trim())
    });
    let pairs = url::form_urlencoded::parse(query.unwrap_or_default().as_bytes());
    let in_query =
        pairs.into_iter().find(|(name, _)| name == "access_token").map(|(_, value)| value.into_owned());
    // In constant time, so that it does not show how much of a guess is right.
    let is_it = |shown: &str| bool::from(shown.as_bytes().ct_eq(token.as_str().as_bytes()));
    in_header.is_some_and(is_it) || in_query.is_some_and(|shown| is_it(&shown))
}

/// Whether `X-Signature: sha1=HMAC` is valid for `body`.
pub(super) fn has_valid_signature(signature: &[u8], body: &[u8], token: &AccessToken) -> bool {
    let Some(hex) = signature.strip_prefix(b"sha1=") else { return false };
    // OneBot 11 signs posts with HMAC-SHA1 (its communication/http-post.md).
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, token.as_str().as_bytes());
    let digits = hex.as_chunks::<2>().0.iter().map(|pair| {
        let pair = std::str::from_utf8(pair)
            .ok()
            // `from_str_radix` would take a sign as well, such as `+f`.
            .filter(|pair| pair.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        u8::from_str_radix(pair, 16).ok()
    });
    let bytes: Option<Vec<u8>> = if hex.len() == 40 { digits.collect() } else { None };
    bytes.is_some_and(|bytes| hmac::verify(&key, body, &bytes).is_ok())
}
