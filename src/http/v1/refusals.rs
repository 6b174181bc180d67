//! The refusals that calls share, for the specification.

use std::collections::BTreeMap;

use utoipa::openapi::{ContentBuilder, Ref, RefOr, Response, ResponseBuilder};
use utoipa::{IntoResponses, ToSchema};

use crate::wire::v1::problem::Problem;

/// Of a call that reads.
pub(super) struct Reading;
/// Of a call that changes something.
pub(super) struct Changing;
/// Of a call for one account.
pub(super) struct OneAccount;
/// Of a call with a query.
pub(super) struct WithQuery;
/// Of a call with a body.
pub(super) struct WithBody;

const TOKEN_NEEDED: (&str, &str) = ("401", "A token is needed");

impl IntoResponses for Reading {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[TOKEN_NEEDED])
    }
}

impl IntoResponses for Changing {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[TOKEN_NEEDED, ("403", "The token is read-only"), ("503", "Just now this can't be done")])
    }
}

impl IntoResponses for OneAccount {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[("404", "There is no such account")])
    }
}

impl IntoResponses for WithQuery {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[("400", "A parameter can't be used")])
    }
}

impl IntoResponses for WithBody {
    fn responses() -> BTreeMap<String, RefOr<Response>> {
        problems(&[
            ("400", "A parameter or the body can't be used"),
            ("413", "The body is too large"),
            ("415", "The body is no JSON"),
        ])
    }
}

fn problems(refusals: &[(&str, &str)]) -> BTreeMap<String, RefOr<Response>> {
    let problem = |description: &str| {
        let content = ContentBuilder::new().schema(Some(Ref::from_schema_name(Problem::name()))).build();
        let response = ResponseBuilder::new().description(description);
        response.content("application/problem+json", content).build().into()
    };
    refusals.iter().map(|(status, description)| ((*status).to_owned(), problem(description))).collect()
}
