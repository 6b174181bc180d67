use std::sync::Arc;

use super::super::table::{SEGMENTS, Way};
use super::*;
use crate::client::remote::message_ids::MessageIds;

const CHAT: (Scene, u64) = (Scene::Group, 5);

fn context() -> PlanContext {
    PlanContext { account: 1, is_online: true, ids: Arc::new(MessageIds::in_memory()) }
}

fn key(peer: u64, seq: u64) -> MessageKey {
    MessageKey { account: 1, scene: Scene::Group, peer, seq }
}

fn part(kind: &str, data: Value) -> Value {
    json!({ "type": kind, "data": data })
}

fn written(part: &Value, context: &PlanContext) -> Result<Vec<Value>, Answer> {
    let (written, wants) = write(std::slice::from_ref(part), CHAT, context, &Known::default())?;
    assert_eq!(wants, Wants::default());
    Ok(written)
}

#[test]
fn segments_become_those_of_milky() {
    let context = context();
    let quoted = context.ids.number(key(5, 3));
    let node = json!({ "user_id": "7", "nickname": "n", "content": "a[CQ:face,id=1]" });
    let inner =
        json!([{ "type": "text", "data": { "text": "a" } }, { "type": "face", "data": { "face_id": "1" } }]);
    for (given, wanted) in [
        (part("text", json!({ "text": "a" })), part("text", json!({ "text": "a" }))),
        (part("text", json!({ "text": 7 })), part("text", json!({ "text": "7" }))),
        (part("face", json!({ "id": 14 })), part("face", json!({ "face_id": "14" }))),
        (part("at", json!({ "qq": "all" })), part("mention_all", json!({}))),
        (part("at", json!({ "qq": "7" })), part("mention", json!({ "user_id": 7 }))),
        (part("reply", json!({ "id": quoted.to_string() })), part("reply", json!({ "message_seq": 3 }))),
        (part("reply", json!({ "id": quoted })), part("reply", json!({ "message_seq": 3 }))),
        (
            part("image", json!({ "file": "base64://AA", "summary": "s" })),
            part("image", json!({ "uri": "base64://AA", "sub_type": "normal", "summary": "s" })),
        ),
        (
            part("image", json!({ "file": "r.jpg", "url": "https://x/r", "sub_type": 1 })),
            part("image", json!({ "uri": "https://x/r", "sub_type": "sticker" })),
        ),
        (
            part("image", json!({ "file": "/a b" })),
            part("image", json!({ "uri": "file:///a b", "sub_type": "normal" })),
        ),
        (part("record", json!({ "file": "http://x/r" })), part("record", json!({ "uri": "http://x/r" }))),
        (
            part("video", json!({ "file": "file:///v", "thumb": "data:image/png;base64,AA" })),
            part("video", json!({ "uri": "file:///v", "thumb_uri": "base64://AA" })),
        ),
        (part("json", json!({ "data": "{}" })), part("light_app", json!({ "json_payload": "{}" }))),
        (
            part("json", json!({ "data": { "a": 1 } })),
            part("light_app", json!({ "json_payload": "{\"a\":1}" })),
        ),
        (
            part("node", node),
            part("forward", json!({ "messages": [{ "user_id": 7, "sender_name": "n", "segments": inner }] })),
        ),
    ] {
        assert_eq!(written(&given, &context), Ok(vec![wanted]), "{given}");
    }
}

#[test]
fn what_cannot_be_sent_is_refused() {
    let context = context();
    let elsewhere = context.ids.number(key(6, 3));
    let mut deep = part("text", json!({ "text": "x" }));
    for _ in 0..=MAX_DEPTH {
        deep = part("node", json!({ "content": [deep] }));
    }
    for (given, code) in [
        (part("text", json!({})), 100),
        (part("face", json!({})), 100),
        (part("at", json!({ "qq": "x" })), 100),
        (part("image", json!({})), 100),
        (part("reply", json!({ "id": "x" })), 100),
        (part("reply", json!({ "id": 77 })), 101),
        (part("reply", json!({ "id": elsewhere })), 100),
        (part("node", json!({ "id": 77 })), 101),
        (part("node", json!({ "content": [{ "type": "reply", "data": { "id": elsewhere } }] })), 100),
        (deep, 100),
        (part("of_a_later_version", json!({})), 100),
        (json!(null), 100),
        (json!("x"), 100),
    ] {
        let refused = written(&given, &context);
        assert!(
            matches!(refused, Err(Answer::Failed { code: found, .. }) if found == code),
            "{given}: {refused:?}"
        );
    }
    let beside = [part("node", json!({ "content": "x" })), part("text", json!({ "text": "x" }))];
    assert!(write(&beside, CHAT, &context, &Known::default()).is_err());
    // Nothing at all is no message.
    let nothing = [part("text", json!({ "text": "" })), part("anonymous", json!({ "ignore": "1" }))];
    assert!(write(&nothing, CHAT, &context, &Known::default()).is_err());
}

#[test]
fn messages_are_texts_or_lists() {
    let text = |text: &str| part("text", json!({ "text": text }));
    assert_eq!(content(json!("a[CQ:face,id=1]"), true), Ok(vec![text("a[CQ:face,id=1]")]));
    assert_eq!(
        content(json!("a[CQ:face,id=1]"), false),
        Ok(vec![text("a"), part("face", json!({ "id": "1" }))])
    );
    assert_eq!(content(json!([text("a")]), false), Ok(vec![text("a")]));
    assert_eq!(content(text("a"), true), Ok(vec![text("a")]));
    for refused in [json!(null), json!(""), json!([]), json!(true), json!(vec![0; MAX_SEGMENTS + 1])] {
        assert!(content(refused, false).is_err());
    }
}

#[test]
fn files_and_messages_that_came_are_asked_for_first() {
    let context = context();
    let passed_on = context.ids.number(key(5, 3));
    let nodes = [
        part("node", json!({ "id": passed_on.to_string() })),
        part(
            "node",
            json!({ "content": [part("image", json!({ "file": "r.jpg" })), part("record", json!({ "file": "r.jpg" }))] }),
        ),
    ];
    let (_, wants) = write(&nodes, CHAT, &context, &Known::default()).unwrap();
    assert_eq!(wants, Wants { resources: vec!["r.jpg".into()], messages: vec![key(5, 3)] });
    assert_eq!(
        questions(&wants),
        [
            ("get_resource_temp_url", json!({ "resource_id": "r.jpg" })),
            ("get_message", json!({ "message_scene": "group", "peer_id": 5, "message_seq": 3 })),
        ]
    );
    let message = json!({
        "sender_id": 7, "group_member": { "nickname": "n", "card": "c" },
        "segments": [{ "type": "text", "data": { "text": "x" } }, { "type": "market_face", "data": {} }],
    });
    let known = learn(wants, vec![json!({ "url": "http://x/r" }), json!({ "message": message })]);
    let (written, wants) = write(&nodes, CHAT, &context, &known).unwrap();
    assert_eq!(wants, Wants::default());
    assert_eq!(
        written[0]["data"]["messages"],
        json!([
            { "user_id": 7, "sender_name": "c", "segments": [{ "type": "text", "data": { "text": "x" } }] },
            {
                "user_id": 1, "sender_name": "1",
                "segments": [
                    { "type": "image", "data": { "uri": "http://x/r", "sub_type": "normal" } },
                    { "type": "record", "data": { "uri": "http://x/r" } },
                ],
            },
        ])
    );
    // More than anyone sends costs nothing.
    let many: Vec<Value> =
        (0..=MAX_RESOURCES).map(|n| part("image", json!({ "file": n.to_string() }))).collect();
    assert!(write(&many, CHAT, &context, &Known::default()).is_err());
}

#[test]
fn table_has_each_segment() {
    let context = context();
    let id = context.ids.number(key(5, 3));
    // What any segment may want.
    let data = json!({
        "text": "x", "id": id, "qq": 7, "file": "http://x/f", "data": "{}", "content": "x", "url": "http://x", "title": "t",
        "lat": "1", "lon": "1", "type": "custom",
    });
    let came = json!({
        "text": "x", "face_id": "1", "user_id": 7, "message_seq": 3, "resource_id": "r", "temp_url": "u", "forward_id": "w",
    });
    let kinds = [
        "text",
        "mention",
        "face",
        "reply",
        "image",
        "record",
        "video",
        "file",
        "forward",
        "market_face",
        "light_app",
        "xml",
    ];
    let made: Vec<Value> = kinds
        .iter()
        .flat_map(|kind| segment::read(&json!([part(kind, came.clone())]), Some(key(5, 9)), &context.ids))
        .collect();
    for (name, comes, goes, _) in SEGMENTS {
        assert_eq!(written(&part(name, data.clone()), &context).is_ok(), *goes != Way::Cannot, "{name} sent");
        // Nodes are in the answer to get_forward_msg alone.
        let is_made = made.iter().any(|made| made["type"] == *name) || *name == "node";
        assert_eq!(is_made, *comes != Way::Cannot, "{name} come");
    }
    assert!(made.iter().all(|made| SEGMENTS.iter().any(|(name, ..)| made["type"] == *name)));
}
