//! The table of calls: name, methods, access and handler of every path below `/openqq/`.
//!
//! The routers of controller and client, the check of read-only tokens and the test of the manual read it. A new call is a
//! row here, an arm in the `match` over its handler, and an `.It Pa` in `man/wqcontroller-api.7`.

use http::Method;

use super::v1::routes;

/// Where every path of the API begins.
pub const ROOT: &str = "/openqq/";

/// Where the controller reports a change of an account's login to its client, which posts it as an event. It is not below
/// [`ROOT`], so no caller of the controller reaches it.
pub const LOGIN_CHANGE: &str = "/wqcontroller/login_change";

/// One call.
#[derive(Clone, Copy, Debug)]
pub struct ApiCall<H> {
    /// What follows [`ROOT`] in its path.
    pub name: &'static str,
    /// How it is called.
    pub methods: Methods,
    /// Whether a read-only token opens it.
    pub access: CallAccess,
    /// Who answers it.
    pub handler: H,
}

/// The methods of a call. HEAD goes with GET: the server leaves the body out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Methods {
    /// GET.
    Get,
    /// GET, and POST with the parameters as a form.
    GetOrPost,
}

/// What a call needs a token for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallAccess {
    /// It changes nothing.
    Read,
    /// It may change something.
    Write,
}

/// The controller's own calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControllerCall {
    /// Starts a client.
    StartClient,
    /// Stops a client.
    StopClient,
    /// Lists clients.
    CheckClient,
    /// Hands out the image of a login code.
    GetQrcode,
    /// Logs an account with an implementation in anew.
    ReloginClient,
}

/// The calls of a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is named as its call")]
pub enum ClientCall {
    GetUserInfo,
    GetFriendInfo,
    GetGroupInfo,
    GetGroupBasicInfo,
    GetDiscussInfo,
    SearchFriend,
    SearchGroup,
    SendFriendMessage,
    SendGroupMessage,
    SendDiscussMessage,
    SendSessMessage,
    ShutupGroupMember,
    KickGroupMember,
    UnmuteGroupMember,
    WholeMute,
    SetCard,
    LeaveGroup,
    RecallMessage,
    ApproveRequest,
    Onebot,
    GetClientInfo,
    StopClient,
    Relogin,
    CheckEvent,
}

use CallAccess::{Read, Write};
use Methods::{Get, GetOrPost};

const fn call<H>(name: &'static str, methods: Methods, access: CallAccess, handler: H) -> ApiCall<H> {
    ApiCall { name, methods, access, handler }
}

/// What the controller answers itself. Any other path, and these with another method, go to the client that is named.
#[rustfmt::skip]
pub const CONTROLLER_CALLS: [ApiCall<ControllerCall>; 5] = [
    call("start_client", Get, Write, ControllerCall::StartClient),
    call("stop_client", Get, Write, ControllerCall::StopClient),
    call("check_client", Get, Read, ControllerCall::CheckClient),
    call("get_qrcode", Get, Read, ControllerCall::GetQrcode),
    call("relogin_client", Get, Write, ControllerCall::ReloginClient),
];

/// What a client answers. An event that `check_event` took is not shown again, but it reads all the same.
#[rustfmt::skip]
pub const CLIENT_CALLS: [ApiCall<ClientCall>; 24] = [
    call("get_user_info", Get, Read, ClientCall::GetUserInfo),
    call("get_friend_info", Get, Read, ClientCall::GetFriendInfo),
    call("get_group_info", Get, Read, ClientCall::GetGroupInfo),
    call("get_group_basic_info", Get, Read, ClientCall::GetGroupBasicInfo),
    call("get_discuss_info", Get, Read, ClientCall::GetDiscussInfo),
    call("search_friend", GetOrPost, Read, ClientCall::SearchFriend),
    call("search_group", GetOrPost, Read, ClientCall::SearchGroup),
    call("send_friend_message", GetOrPost, Write, ClientCall::SendFriendMessage),
    call("send_group_message", GetOrPost, Write, ClientCall::SendGroupMessage),
    call("send_discuss_message", GetOrPost, Write, ClientCall::SendDiscussMessage),
    call("send_sess_message", GetOrPost, Write, ClientCall::SendSessMessage),
    call("shutup_group_member", GetOrPost, Write, ClientCall::ShutupGroupMember),
    call("kick_group_member", GetOrPost, Write, ClientCall::KickGroupMember),
    call("unmute_group_member", GetOrPost, Write, ClientCall::UnmuteGroupMember),
    call("whole_mute", GetOrPost, Write, ClientCall::WholeMute),
    call("set_card", GetOrPost, Write, ClientCall::SetCard),
    call("leave_group", GetOrPost, Write, ClientCall::LeaveGroup),
    call("recall_message", GetOrPost, Write, ClientCall::RecallMessage),
    call("approve_request", GetOrPost, Write, ClientCall::ApproveRequest),
    call("onebot", GetOrPost, Write, ClientCall::Onebot),
    call("get_client_info", GetOrPost, Read, ClientCall::GetClientInfo),
    call("stop_client", GetOrPost, Write, ClientCall::StopClient),
    call("relogin", Get, Write, ClientCall::Relogin),
    call("check_event", GetOrPost, Read, ClientCall::CheckEvent),
];

impl Methods {
    fn allow(self, method: &Method) -> bool {
        match *method {
            Method::GET | Method::HEAD => true,
            Method::POST => self == Self::GetOrPost,
            _ => false,
        }
    }
}

/// The handler of the call at `path` in `table`, if it takes `method`.
pub fn find<H: Copy>(table: &[ApiCall<H>], method: &Method, path: &str) -> Option<H> {
    let name = path.strip_prefix(ROOT)?;
    table
        .iter()
        .find(|call| call.name == name)
        .filter(|call| call.methods.allow(method))
        .map(|call| call.handler)
}

/// Whether a request only reads. A POST may bring a body, so it never counts as a read; neither does a path in a spelling
/// other than the usual one, which a client may take for another call.
pub fn only_reads(method: &Method, path: &str) -> bool {
    if routes::is_own(path) || path == routes::METRICS {
        return routes::only_reads(method, path);
    }
    let Some(name) = path.strip_prefix(ROOT) else { return false };
    let own = CONTROLLER_CALLS.iter().map(|call| (call.name, call.access));
    let mut all = own.chain(CLIENT_CALLS.iter().map(|call| (call.name, call.access)));
    // A name in both tables has the same access in both, so it does not matter which row matches.
    matches!(*method, Method::GET | Method::HEAD) && all.any(|call| call == (name, Read))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_is_found_by_path_and_method() {
        for (method, path, handler) in [
            (Method::GET, "/openqq/get_user_info", Some(ClientCall::GetUserInfo)),
            (Method::HEAD, "/openqq/get_user_info", Some(ClientCall::GetUserInfo)),
            (Method::POST, "/openqq/get_user_info", None),
            (Method::POST, "/openqq/send_friend_message", Some(ClientCall::SendFriendMessage)),
            (Method::PUT, "/openqq/send_friend_message", None),
            (Method::POST, "/openqq/get_client_info", Some(ClientCall::GetClientInfo)),
            (Method::GET, "/openqq/get_user_info/", None),
            (Method::GET, "/openqq/", None),
            (Method::GET, "/", None),
        ] {
            assert_eq!(find(&CLIENT_CALLS, &method, path), handler, "{method} {path}");
        }
        let own = |method| find(&CONTROLLER_CALLS, &method, "/openqq/stop_client");
        assert_eq!(own(Method::GET), Some(ControllerCall::StopClient));
        assert_eq!(own(Method::POST), None, "it is for the client");
    }

    #[test]
    fn access_does_not_depend_on_who_answers() {
        for own in CONTROLLER_CALLS {
            for call in CLIENT_CALLS.iter().filter(|call| call.name == own.name) {
                assert_eq!(call.access, own.access, "{}", call.name);
            }
        }
    }
}
