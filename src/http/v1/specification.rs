//! The specification of the API, generated.

use std::sync::OnceLock;

use bytes::Bytes;
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};

use super::accounts::{__path_list, __path_one};
use super::actions::{__path_put, __path_relogin, __path_restart, __path_start, __path_stop};
use super::events::__path_follow;
use super::explain::__path_explanation;
use super::forget::__path_delete;
use super::kept::{__path_keeps, __path_parameters, __path_put_in, __path_take_out};
use super::log::__path_log;
use super::machine::__path_about;
use super::moves::__path_move_account;
use super::qrcode::__path_qrcode;
use super::sandbox::{__path_file, __path_frames, __path_people, __path_world};
use super::scan::__path_link;
use super::session::{__path_show, __path_sign_in, __path_sign_out};
use super::text;
use crate::wire::v1::problem::Problem;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "wqcontroller",
        description = "Chat accounts on one machine: what they are, how they are, and what is done with them.",
    ),
    paths(
        list,
        one,
        follow,
        about,
        put,
        delete,
        start,
        stop,
        restart,
        relogin,
        move_account,
        parameters,
        keeps,
        take_out,
        put_in,
        qrcode,
        log,
        explanation,
        link,
        show,
        sign_in,
        sign_out,
        world,
        frames,
        file,
        people
    ),
    components(schemas(Problem))
)]
struct Specification;

/// OpenAPI 3.1, as JSON.
pub(super) fn text_of_all() -> Bytes {
    static TEXT: OnceLock<Bytes> = OnceLock::new();
    TEXT.get_or_init(|| {
        let mut all = Specification::openapi();
        let token = SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        all.components.get_or_insert_default().security_schemes.insert("token".to_owned(), token.into());
        // Where the configuration has no tokens, none is needed.
        all.security = Some(vec![
            SecurityRequirement::default(),
            SecurityRequirement::new("token", Vec::<String>::new()),
        ]);
        text(&all)
    })
    .clone()
}
