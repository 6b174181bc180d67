//! The controller's own calls: `start_client`, `stop_client`, `check_client`, `get_qrcode`.

use std::sync::Arc;

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue, IF_NONE_MATCH};
use http::request::Parts;
use http::{HeaderMap, Response, StatusCode};
use sha2::{Digest, Sha256};
use tracing::warn;

use super::answer::{self, Body};
use super::params::Params;
use super::{Door, reply_response};
use crate::environ::client_spec;
use crate::files::read_untrusted;
use crate::homes::Homes;
use crate::model::chain::Chain;
use crate::model::client::Phase;
use crate::model::fleet::AtOnce;
use crate::model::name::ClientName;
use crate::model::reply::{self, Reply};
use crate::registry::ClientView;

/// The largest QR image that is handed out, in bytes.
const MAX_IMAGE: u64 = 1024 * 1024;

/// An answer, or a refusal in the controller's own words.
type Answer = Result<Response<Body>, Reply>;

/// Starts a client; answers when its process is there.
pub(super) async fn start_client(door: Arc<Door>, request: Parts) -> Answer {
    let (name, params) = named(&request)?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let (homes, settings) = (door.homes.clone(), door.settings.borrow().clone());
    // Links are looked up in the file system, which may be slow.
    let spec = tokio::task::spawn_blocking(move || client_spec(name, params, &homes, &settings)).await;
    let spec = spec.map_err(|_| Reply::busy())?.map_err(|error| Reply::invalid(Chain(&error).to_string()))?;
    let outcome = door.registry.start(spec).await.map_err(|_| Reply::busy())?;
    Ok(reply_response(&Reply::outcome(&outcome)))
}

/// Stops a client; answers when its process is gone, or with `async=1` at once.
pub(super) async fn stop_client(door: Arc<Door>, request: Parts) -> Answer {
    let (name, params) = named(&request)?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let at_once = if params.get("async") == Some("1") { AtOnce::Yes } else { AtOnce::No };
    door.upstreams.let_go(&name);
    let outcome = door.registry.stop(name, at_once).await.map_err(|_| Reply::busy())?;
    Ok(reply_response(&Reply::outcome(&outcome)))
}

/// Lists all clients, or one.
pub(super) fn check_client(door: &Door, request: &Parts) -> Answer {
    let (name, _) = named(request)?;
    let snapshot = door.registry.snapshot();
    let text = match name {
        Some(name) => {
            let view = snapshot.get(&name).ok_or_else(Reply::no_such_client)?;
            reply::client_list(std::iter::once(&view.json()[..]))
        }
        None => reply::client_list(snapshot.iter().map(|view| &view.json()[..])),
    };
    Ok(answer::json(StatusCode::OK, text))
}

/// Hands out the image of the login QR code.
pub(super) async fn get_qrcode(door: Arc<Door>, request: Parts) -> Answer {
    let (name, _) = named(&request)?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let view = door.registry.client(&name).ok_or_else(Reply::no_such_client)?;
    let Some((kind, image)) = read_image(view, &door.homes).await else {
        return Ok(answer::empty(StatusCode::NOT_FOUND));
    };

    let tag: String = Sha256::digest(&image)[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = format!("\"{tag}\"");
    let known = is_known(&request.headers, &tag);
    let mut response = if known {
        answer::empty(StatusCode::NOT_MODIFIED)
    } else {
        Response::new(answer::whole_body(image))
    };
    let headers = response.headers_mut();
    if !known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    if let Ok(tag) = HeaderValue::try_from(tag) {
        headers.insert(ETAG, tag);
    }
    Ok(response)
}

/// The image and its content type, if there is one that can be shown.
async fn read_image(view: Arc<ClientView>, homes: &Homes) -> Option<(&'static str, Vec<u8>)> {
    if matches!(view.record.phase, Phase::Gone(_)) {
        return None;
    }
    let path = view.record.spec.files.qrcode.clone();
    let owner = homes.owner(&view.record.spec.name);
    let read = tokio::task::spawn_blocking(move || read_untrusted(&path, &owner, MAX_IMAGE));
    let (name, path) = (&view.record.spec.name, &view.record.spec.files.qrcode);
    match read.await {
        Ok(Ok((image, _))) => {
            let kind = image_type(&image);
            if kind.is_none() {
                warn!(client = %name, path = %path.display(), "the client's QR image is neither PNG nor JPEG");
            }
            kind.map(|kind| (kind, image))
        }
        Ok(Err(error)) => {
            if !error.is_missing() {
                warn!(client = %name, error = %Chain(&error), "the client's QR image can't be used");
            }
            None
        }
        Err(error) => {
            warn!(client = %name, %error, "the client's QR image can't be read");
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

/// Whether the caller has this version already (RFC 9110, 13.1.2: compared weakly).
fn is_known(headers: &HeaderMap, tag: &str) -> bool {
    let lists = headers.get_all(IF_NONE_MATCH).iter().filter_map(|list| list.to_str().ok());
    let mut tags = lists.flat_map(|list| list.split(',')).map(str::trim);
    tags.any(|known| known == "*" || known.strip_prefix("W/").unwrap_or(known) == tag)
}

/// The parameters of a call, `client` taken out. An empty one counts as none, as in the original.
fn named(request: &Parts) -> Result<(Option<ClientName>, Params), Reply> {
    let query = request.uri.query().unwrap_or_default();
    let mut params = Params::parse(query.as_bytes()).map_err(|error| Reply::invalid(error.to_string()))?;
    let name = params.remove("client").filter(|name| !name.is_empty());
    Ok((name.map(client_name).transpose()?, params))
}

/// Checks a name that a caller gave.
pub(super) fn client_name(text: String) -> Result<ClientName, Reply> {
    ClientName::new(text).map_err(|error| Reply::invalid(format!("parameter \"client\": {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_etag_is_recognised() {
        let known = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_NONE_MATCH, HeaderValue::from_str(value).unwrap());
            is_known(&headers, "\"abc\"")
        };
        assert!(known("\"abc\"") && known("W/\"abc\"") && known("\"x\", \"abc\"") && known("*"));
        assert!(!known("\"abcd\"") && !known("abc") && !known(""));
    }

    #[test]
    fn an_image_is_known_by_its_first_bytes() {
        assert_eq!(image_type(b"\x89PNG\r\n\x1a\n..."), Some("image/png"));
        assert_eq!(image_type(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(image_type(b"<html>"), None);
    }
}
