//! `get_qrcode`: the image of the login code of an account.

use std::path::PathBuf;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::{HeaderMap, Response, StatusCode};
use ring::digest::{SHA256, digest};
use tracing::warn;

use super::handlers::{CallContext, HandlerResult};
use crate::blocking::BlockingTurns;
use crate::environ::implementation_of;
use crate::files::{FileOwner, read_untrusted};
use crate::http::body;
use crate::model::client::Phase;
use crate::model::error_chain::ErrorChain;
use crate::registry::ClientView;
use crate::wire::Reply;

/// The largest image, in bytes.
const MAX_IMAGE: u64 = 1024 * 1024;

/// Answers with the image of the login code.
pub(super) async fn get_qrcode(call: CallContext) -> HandlerResult {
    let headers = call.request.headers.clone();
    let (service, (name, _)) = call.read().await?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let view = service.proxy.registry.client(&name).ok_or_else(Reply::no_such_client)?;
    let settings = service.proxy.settings.borrow().clone();
    let found = match implementation_of(&view.record.spec) {
        Some(_) => match service.accounts.login_code(&view.record.spec, &settings) {
            Some((path, owner)) => read_image(&view, path, owner, &service.blocking).await,
            None => None,
        },
        None if matches!(view.record.phase, Phase::Gone(_)) => None,
        None => {
            let (path, owner) =
                (view.record.spec.files.qrcode.clone(), service.client_dirs.owner(&view.record.spec.id));
            read_image(&view, path, owner, &service.blocking).await
        }
    };
    let Some((kind, image)) = found else { return Ok(body::empty(StatusCode::NOT_FOUND)) };

    // Half of the digest is enough to tell the images of one account apart.
    let tag: String =
        digest(&SHA256, &image).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = is_known(&headers, &tag);
    let mut response =
        if known { body::empty(StatusCode::NOT_MODIFIED) } else { Response::new(body::whole_body(image)) };
    let headers = response.headers_mut();
    if !known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    // May be kept, but is asked for again each time: a code is replaced by the next one under the same URL.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// The image at `path`, which must be `owner`'s, and its content type.
async fn read_image(
    view: &ClientView,
    path: PathBuf,
    owner: FileOwner,
    blocking: &BlockingTurns,
) -> Option<(&'static str, Vec<u8>)> {
    let name = &view.record.spec.name;
    let read = blocking.run({
        let path = path.clone();
        move || read_untrusted(&path, &owner, MAX_IMAGE)
    });
    match read.await {
        Ok(Ok((image, _))) => {
            // The client chooses what is in this file. A browser would run HTML with the controller's origin.
            let kind = image_type(&image);
            if kind.is_none() {
                warn!(client = %name, path = %path.display(), "QR image {} is neither PNG nor JPEG", path.display());
            }
            kind.map(|kind| (kind, image))
        }
        Ok(Err(error)) => {
            // Most of the time there is no code, as no login waits for one.
            if !error.is_missing() {
                warn!(client = %name, error = %ErrorChain(&error), "cannot use its QR image: {}", ErrorChain(&error));
            }
            None
        }
        Err(error) => {
            warn!(client = %name, %error, "cannot read its QR image: {error}");
            None
        }
    }
}

fn image_type(content: &[u8]) -> Option<&'static str> {
    if content.starts_with(b"\x89PNG\r\n\x1a\n") {
        Some("image/png")
    } else if content.starts_with(b"\xff\xd8\xff") {
        Some("image/jpeg")
    } else {
        None
    }
}

/// Whether the caller has this version already (RFC 9110, 13.1.2: weak comparison).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn if_none_match_is_compared_weakly() {
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            is_known(&headers, "\"abc\"")
        };
        assert!(known("\"abc\"") && known("W/\"abc\"") && known("\"x\", \"abc\"") && known("*"));
        assert!(!known("\"abcd\"") && !known("abc") && !known(""));
    }

    #[test]
    fn image_type_is_detected_by_magic_bytes() {
        assert_eq!(image_type(b"\x89PNG\r\n\x1a\n..."), Some("image/png"));
        assert_eq!(image_type(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(image_type(b"<html>"), None);
    }
}
