//! A bus in memory with a systemd of one unit, for tests of what happens while the bus is away.

use std::collections::HashMap;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use tokio::io::{
    AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf as ReadEnd, WriteHalf as WriteEnd, duplex,
};
use tokio::sync::mpsc;
use zbus::connection::Builder;
use zbus::connection::socket::{ReadHalf, Socket, Split, WriteHalf};
use zbus::message::Type;
use zbus::{Message, MessageStream, ObjectPath, Variant};

use super::connection::{SystemdConnection, open_over};
use crate::config::ManagerKind;
use crate::locks::locked;

/// Any GUID does.
const GUID: &str = "0123456789abcdef0123456789abcdef";

/// What systemd knows, over all connections.
#[derive(Debug, Default)]
pub(super) struct FakeSystemd {
    /// `ActiveState` of the unit; `StopUnit` makes it `inactive`.
    pub state: String,
    /// The main process of the unit.
    pub pid: u32,
    /// Whether the unit has a job.
    pub has_job: bool,
    /// The bus goes at this call, before its reply.
    pub lost_at: Option<&'static str>,
    /// The calls that change something.
    pub calls: Vec<String>,
}

/// Opens a connection to it. What is returned last ends with the connection.
pub(super) async fn connect(
    systemd: &Arc<Mutex<FakeSystemd>>,
) -> (SystemdConnection, MessageStream, mpsc::Receiver<()>) {
    let (ours, theirs) = duplex(64 * 1024);
    let (alive, gone) = mpsc::channel(1);
    let systemd = systemd.clone();
    tokio::spawn(async move {
        let _alive = alive;
        serve(Pipe(theirs).split(), &systemd).await;
    });
    let builder = Builder::authenticated_socket(Pipe(ours), GUID);
    let (link, messages) = open_over(ManagerKind::System, builder).await.unwrap();
    (link, messages, gone)
}

/// Answers calls until the bus goes.
async fn serve(mut socket: Split<Reader, Writer>, systemd: &Mutex<FakeSystemd>) {
    loop {
        let call = socket.read_mut().receive_message(0, &mut Vec::new(), &mut Vec::new()).await;
        let Some(call) = call.ok().filter(|call| call.message_type() == Type::MethodCall) else { return };
        let Some(answer) = locked(systemd).answer(&call) else { return };
        socket.write_mut().send_message(&answer).await.unwrap();
    }
}

impl FakeSystemd {
    fn answer(&mut self, call: &Message) -> Option<Message> {
        let header = call.header();
        let member = header.member().unwrap().to_string();
        let reply = Message::method_return(&header);
        let is_change = matches!(&*member, "StartUnit" | "StopUnit" | "KillUnit" | "ReloadUnit");
        if is_change {
            self.calls.push(member.clone());
        }
        if self.lost_at == Some(&*member) {
            self.lost_at = None;
            return None;
        }
        if member == "StopUnit" {
            (self.state, self.has_job) = ("inactive".to_owned(), false);
        }
        let answer = match &*member {
            "Hello" => reply.build(&":1.1"),
            "GetNameOwner" => reply.build(&":1.0"),
            "Get" => {
                let (_, name): (String, String) = call.body().deserialize().unwrap();
                match &*name {
                    "SoftRebootsCount" => reply.build(&Variant::from(0u32)),
                    _ => reply.build(&Variant::from(1u64)),
                }
            }
            "GetAll" => reply.build(&self.properties()),
            _ if is_change => reply.build(&ObjectPath::try_from("/job/1").unwrap()),
            _ => reply.build(&()),
        };
        Some(answer.unwrap())
    }

    fn properties(&self) -> HashMap<&'static str, Variant<'_>> {
        let job = (u32::from(self.has_job), ObjectPath::try_from("/job/1").unwrap());
        HashMap::from([
            ("ActiveState", Variant::from(&*self.state)),
            ("InvocationID", Variant::from(vec![0x11u8; 16])),
            ("Job", Variant::from(job)),
            ("MainPID", Variant::from(self.pid)),
            ("ExecMainPID", Variant::from(self.pid)),
            ("ExecMainCode", Variant::from(0i32)),
            ("ExecMainStatus", Variant::from(0i32)),
            ("Result", Variant::from("success")),
        ])
    }
}

/// One end of a connection.
struct Pipe(DuplexStream);

#[derive(Debug)]
struct Reader(ReadEnd<DuplexStream>);

#[derive(Debug)]
struct Writer(WriteEnd<DuplexStream>);

impl Socket for Pipe {
    type ReadHalf = Reader;
    type WriteHalf = Writer;

    fn split(self) -> Split<Reader, Writer> {
        let (read, write) = tokio::io::split(self.0);
        Split::new(Reader(read), Writer(write))
    }
}

/// What the library's trait makes of an asynchronous function.
type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl ReadHalf for Reader {
    fn recvmsg<'a, 'b, 'c>(&'a mut self, buffer: &'b mut [u8]) -> Later<'c, io::Result<(usize, Vec<OwnedFd>)>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        Box::pin(async move { Ok((self.0.read(buffer).await?, Vec::new())) })
    }
}

impl WriteHalf for Writer {
    fn sendmsg<'a, 'b, 'c, 'd, 'e>(
        &'a mut self,
        buffer: &'b [u8],
        _fds: &'c [BorrowedFd<'d>],
    ) -> Later<'e, io::Result<usize>>
    where
        'a: 'e,
        'b: 'e,
        'c: 'e,
        'd: 'e,
        Self: 'e,
    {
        Box::pin(async move { self.0.write(buffer).await })
    }

    fn close<'a, 'b>(&'a mut self) -> Later<'b, io::Result<()>>
    where
        'a: 'b,
        Self: 'b,
    {
        Box::pin(async move { self.0.shutdown().await })
    }
}
