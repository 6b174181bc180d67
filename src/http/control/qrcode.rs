//! `get_qrcode`: the image of the login code of an account.

use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderValue};
use http::{Response, StatusCode};
use ring::digest::{SHA256, digest};

use super::elsewhere::Place;
use super::handlers::{CallContext, HandlerResult, QRCODE};
use crate::accounts::LoginCode;
use crate::http::{body, etag};
use crate::wire::Reply;

/// Answers with the image of the login code.
pub(super) async fn get_qrcode(call: CallContext) -> HandlerResult {
    let headers = call.request.headers.clone();
    let by_door = call.is_by_door();
    let (service, (name, params)) = call.read().await?;
    let name = name.ok_or_else(Reply::no_client_given)?;
    let name = match service.place(name, by_door)? {
        Place::Here(name) => name,
        Place::On(machine, name) => {
            return Ok(service.call_machine((&machine, &name), QRCODE, params).await?.0);
        }
    };
    let view = service.proxy.registry.client(&name).ok_or_else(Reply::no_such_client)?;
    let settings = service.proxy.settings.borrow().clone();
    let Some(LoginCode { kind, image, .. }) = service.accounts.login_code(&view, &settings).await else {
        return Ok(body::empty(StatusCode::NOT_FOUND));
    };

    // Half of the digest is enough to tell the images of one account apart.
    let tag: String =
        digest(&SHA256, &image).as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    let tag = HeaderValue::try_from(format!("\"{tag}\"")).ok();
    let known = tag.as_ref().is_some_and(|tag| etag::is_known(&headers, tag));
    let mut response =
        if known { body::empty(StatusCode::NOT_MODIFIED) } else { Response::new(body::whole_body(image)) };
    let headers = response.headers_mut();
    if !known {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    }
    // May be kept, but is asked for again each time: a code is replaced by the next one under the same URL.
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.extend(tag.map(|tag| (ETAG, tag)));
    Ok(response)
}
