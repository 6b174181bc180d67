//! Tests of the policy, with real connections.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, TcpListener, TcpStream};

use super::*;

fn lookups() -> [SocketOwners; 2] {
    let tables = SocketOwners::proc_net(io::Error::other("a test"));
    let netlink = SocketOwners::open().unwrap();
    assert!(matches!(netlink, SocketOwners::Netlink { .. }), "{}", netlink.source());
    [netlink, tables]
}

/// A connection: the caller's end, the one that was accepted, and the addresses of both.
fn connect(listener: &TcpListener, to: SocketAddr) -> (TcpStream, TcpStream, SocketAddr, SocketAddr) {
    let caller = TcpStream::connect(to).unwrap();
    let (accepted, remote) = listener.accept().unwrap();
    let local = accepted.local_addr().unwrap();
    (caller, accepted, canonical(remote), canonical(local))
}

#[tokio::test]
async fn owner_of_caller_is_found_over_ipv4_and_ipv6() {
    for owners in lookups() {
        for (bound, called) in [
            (IpAddr::from(Ipv4Addr::LOCALHOST), IpAddr::from(Ipv4Addr::LOCALHOST)),
            (Ipv6Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()),
            // Mapped on our side, or on both.
            (Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.into()),
            (Ipv6Addr::UNSPECIFIED.into(), Ipv4Addr::LOCALHOST.to_ipv6_mapped().into()),
            (Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(127, 0, 0, 9).into()),
        ] {
            let listener = TcpListener::bind((bound, 0)).unwrap();
            let to = (called, listener.local_addr().unwrap().port()).into();
            let (caller, _accepted, remote, local) = connect(&listener, to);
            assert_eq!(owners.of(remote, local).await, PeerUser::User(own_uid()), "{bound} {called}");
            // It waits for its answer.
            caller.shutdown(Shutdown::Write).unwrap();
            assert_eq!(owners.of(remote, local).await, PeerUser::User(own_uid()), "{bound} {called}");
        }
    }
}

#[tokio::test]
async fn owner_of_caller_bound_to_device_is_found() {
    for owners in lookups() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind_device(Some(b"lo")).unwrap();
        let _caller = socket.connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, remote) = listener.accept().unwrap();
        let local = accepted.local_addr().unwrap();
        assert_eq!(owners.of(remote, local).await, PeerUser::User(own_uid()), "{}", owners.source());
    }
}

#[tokio::test]
async fn caller_that_closed_before_accept_is_unknown() {
    for owners in lookups() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let mut caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        caller.write_all(b"GET /openqq/stop_client?client=a HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        drop(caller);
        let (accepted, remote) = listener.accept().unwrap();
        let local = accepted.local_addr().unwrap();
        assert_eq!(owners.of(remote, local).await, PeerUser::Unknown);
        let policy = PeerPolicy { owners, users: Users::default(), own: own_uid() };
        assert_eq!(policy.check_tcp(&accepted, remote, local).await, Err(PeerRefusal::Unknown));
    }
}

#[tokio::test]
async fn reused_address_of_reset_caller_is_unknown() {
    let policy = PeerPolicy::of_controller().unwrap();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let local = listener.local_addr().unwrap();
    let call_from = |from: SocketAddr| {
        let socket =
            rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::STREAM, None)
                .unwrap();
        rustix::net::bind(&socket, &from).unwrap();
        rustix::net::connect(&socket, &local).unwrap();
        socket
    };
    // From an address that no other program uses, so that none takes the port in between.
    let [_, _, high, low] = std::process::id().to_be_bytes();
    let caller = call_from((Ipv4Addr::new(127, 77, high, low), 0).into());
    let (accepted, remote) = listener.accept().unwrap();
    assert_eq!(policy.check_tcp(&accepted, remote, local).await, Ok(()));
    rustix::net::sockopt::set_socket_linger(&caller, Some(std::time::Duration::ZERO)).unwrap();
    drop(caller);
    // The next call comes from the same address, by root or this user.
    let _again = call_from(remote);
    let (second, _) = listener.accept().unwrap();
    assert_eq!(policy.check_tcp(&second, remote, local).await, Ok(()));
    assert_eq!(policy.check_tcp(&accepted, remote, local).await, Err(PeerRefusal::Unknown));
}

#[tokio::test]
async fn other_machines_are_remote() {
    for owners in lookups() {
        let (remote, local) = (IpAddr::from([192, 0, 2, 7]), IpAddr::from([198, 51, 100, 1]));
        assert_eq!(owners.of((remote, 40000).into(), (local, 4000).into()).await, PeerUser::Remote);
        // From here, by an address that others know.
        assert_eq!(owners.of((local, 40000).into(), (local, 4000).into()).await, PeerUser::Unknown);
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(owners.of((loopback, 1).into(), (local, 4000).into()).await, PeerUser::Unknown);
        assert_eq!(owners.of((remote, 1).into(), (loopback, 4000).into()).await, PeerUser::Unknown);
    }
}

#[tokio::test]
async fn policy_decides_by_user_name() {
    let folder = tempfile::tempdir().unwrap();
    for (uid, name) in [(61234, "wqc-alice"), (61235, "bot"), (61236, "wqc-own"), (1000, "wqc-odd")] {
        std::os::unix::fs::symlink(name, folder.path().join(format!("direct:{uid}"))).unwrap();
    }
    let users = Users::in_folder(folder.path());
    let policy = PeerPolicy { owners: SocketOwners::open().unwrap(), users, own: 61236 };
    for allowed in [0, 1001, 61235, 61236] {
        assert_eq!(policy.check(PeerUser::User(allowed)).await, Ok(()), "{allowed}");
    }
    assert_eq!(policy.check(PeerUser::Remote).await, Ok(()));
    for (uid, name) in [(61234, "wqc-alice"), (1000, "wqc-odd")] {
        assert_eq!(policy.check(PeerUser::User(uid)).await, Err(PeerRefusal::OtherAccount(name.into())));
    }
    // A unit that is gone meanwhile.
    assert_eq!(policy.check(PeerUser::User(61999)).await, Err(PeerRefusal::Unknown));
    assert_eq!(policy.check(PeerUser::Unknown).await, Err(PeerRefusal::Unknown));
}

#[tokio::test]
async fn client_uses_its_own_implementation_and_none_of_another_account() {
    let folder = tempfile::tempdir().unwrap();
    for (uid, name) in [(61234, "wqi-own"), (61235, "wqi-other"), (61236, "wqc-own"), (61237, "bot")] {
        std::os::unix::fs::symlink(name, folder.path().join(format!("direct:{uid}"))).unwrap();
    }
    let users = Users::in_folder(folder.path());
    let policy = PeerPolicy { owners: SocketOwners::open().unwrap(), users, own: 61236 };
    let unit = policy.own_implementation().await;
    assert_eq!(unit, "wqimpl@own.service");
    for (uid, expected) in [
        (0, Ok(())),
        (1000, Ok(())),
        (61234, Ok(())),
        (61237, Ok(())),
        (61235, Err(ListenerRefusal::OtherAccount("wqi-other".into()))),
        (61999, Err(ListenerRefusal::Unknown)),
    ] {
        assert_eq!(policy.check_owner(PeerUser::User(uid), &unit).await, expected, "{uid}");
    }
    // This process is neither root's there nor an account's, so it may listen.
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(policy.check_implementation_at(address).await, Ok(()));
    let caller = tokio::net::TcpStream::connect(address).await.unwrap();
    assert_eq!(policy.check_implementation(&caller).await, Ok(()));
    drop(listener);
    assert_eq!(policy.check_implementation(&caller).await, Err(ListenerRefusal::Unknown));
    assert_eq!(policy.check_implementation_at(address).await, Ok(()), "no program is there to be told");
}

#[tokio::test]
async fn unix_socket_caller_is_known() {
    let (ours, _callers) = std::os::unix::net::UnixStream::pair().unwrap();
    let policy = PeerPolicy::of_controller().unwrap();
    assert_eq!(policy.check_unix(&ours).await, Ok(()));
}

#[tokio::test]
async fn receiver_address_of_account_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (uid, name) in [(61234, "wqc-alice"), (61235, "bot")] {
        std::os::unix::fs::symlink(name, folder.path().join(format!("direct:{uid}"))).unwrap();
    }
    let users = Users::in_folder(folder.path());
    let policy = PeerPolicy { owners: SocketOwners::open().unwrap(), users, own: 61236 };
    for fine in [
        PeerUser::User(0),
        PeerUser::User(61235),
        PeerUser::User(61236),
        PeerUser::User(1000),
        PeerUser::Unknown,
    ] {
        assert_eq!(policy.check_receiver_of(fine).await, Ok(()), "{fine:?}");
    }
    let refused = policy.check_receiver_of(PeerUser::User(61234)).await;
    assert_eq!(refused, Err(ListenerRefusal::OtherAccount("wqc-alice".into())));
    assert_eq!(policy.check_receiver_of(PeerUser::User(61999)).await, Err(ListenerRefusal::Unknown));
}

#[tokio::test]
async fn listener_on_ipv6_loopback_is_found() {
    for owners in lookups() {
        for bound in [Ipv6Addr::LOCALHOST, Ipv6Addr::UNSPECIFIED] {
            let listener = TcpListener::bind((bound, 0)).unwrap();
            let called = (Ipv6Addr::LOCALHOST, listener.local_addr().unwrap().port()).into();
            assert_eq!(owners.of_listener(called).await, PeerUser::User(own_uid()), "{bound}");
            drop(listener);
            assert_eq!(owners.of_listener(called).await, PeerUser::Unknown, "{bound}");
        }
    }
}

#[tokio::test]
async fn listener_on_port_is_found() {
    for owners in lookups() {
        for bound in
            [IpAddr::from(Ipv4Addr::LOCALHOST), Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()]
        {
            let listener = TcpListener::bind((bound, 0)).unwrap();
            let port = listener.local_addr().unwrap().port();
            let called = (Ipv4Addr::LOCALHOST, port).into();
            assert_eq!(owners.of_listener(called).await, PeerUser::User(own_uid()), "{bound}");
            let _caller = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
            assert_eq!(owners.of_listener(called).await, PeerUser::User(own_uid()), "{bound}");
            drop(listener);
            assert_eq!(owners.of_listener(called).await, PeerUser::Unknown, "{bound}");
        }
    }
    assert!(is_user_of("wqc-a", "wqclient@a.service") && is_user_of("wqc--a", "wqclient--a.service"));
    for (user, unit) in
        [("wqc-a", "wqclient@b.service"), ("a", "wqclient@a.service"), ("wqc-a", "wqclient"), ("wqc-", "")]
    {
        assert!(!is_user_of(user, unit), "{user} {unit}");
    }
}

#[tokio::test]
async fn acceptor_is_found_once_connection_is_accepted() {
    for owners in lookups() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let caller = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (local, remote) = (caller.local_addr().unwrap(), caller.peer_addr().unwrap());
        assert_eq!(owners.of_acceptor(remote, local).await, None, "it waits in the queue");
        let (accepted, _) = listener.accept().unwrap();
        drop(listener);
        assert_eq!(owners.of_acceptor(remote, local).await, Some(PeerUser::User(own_uid())));
        // What it wrote before can still be read, but its user is not known any more.
        drop(accepted);
        assert_eq!(owners.of_acceptor(remote, local).await, Some(PeerUser::Unknown));
    }
}

#[tokio::test]
async fn upstream_check_uses_acceptor_not_listener() {
    const UNIT: &str = "wqclient@a.service";
    for owners in lookups() {
        let policy = PeerPolicy { owners, users: Users::default(), own: own_uid() };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let caller = tokio::net::TcpStream::connect(address).await.unwrap();
        assert_eq!(policy.check_upstream(&caller, UNIT).await, Ok(()), "it waits to be accepted");
        let (accepted, _) = listener.accept().unwrap();
        drop(listener);
        assert_eq!(policy.check_upstream(&caller, UNIT).await, Ok(()), "nobody listens any more");
        drop(accepted);
        let _other = TcpListener::bind(address).unwrap();
        assert_eq!(policy.check_upstream(&caller, UNIT).await, Err(ListenerRefusal::Unknown));
    }
}

#[tokio::test(start_paused = true)]
async fn caller_is_refused_as_busy_when_lookups_queue() {
    let owners = SocketOwners::proc_net(io::Error::other("a test"));
    let SocketOwners::ProcNet { turns, .. } = &owners else { panic!("{owners:?}") };
    let all = turns.take_all().await;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let (_caller, accepted, remote, local) = connect(&listener, listener.local_addr().unwrap());
    let policy = PeerPolicy { owners, users: Users::default(), own: own_uid() };
    assert_eq!(policy.check_tcp(&accepted, remote, local).await, Err(PeerRefusal::Busy));
    assert_eq!(policy.check_receiver(local).await, Err(ListenerRefusal::Busy));
    drop(all);
    tokio::time::resume();
    assert_eq!(policy.check_tcp(&accepted, remote, local).await, Ok(()));
}
