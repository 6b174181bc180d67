use serde_json::json;

use tokio_util::sync::CancellationToken;

use super::*;
use crate::client::sandbox::Sandbox;
use crate::client::sandbox::tests::logged_in;

const GROUP: u64 = 700_100_200;

fn call(name: &str, params: Value) -> ActionCall {
    let Value::Object(params) = params else { panic!("{params}") };
    ActionCall::new(name, params)
}

async fn group_name(actions: &Actions<Sandbox>) -> String {
    match actions.call(call("get_group_info", json!({ "group_id": GROUP }))).await {
        Answer::Done(info) => info["group_name"].as_str().unwrap().to_owned(),
        refused => panic!("{refused:?}"),
    }
}

fn renamed(suffix: &str, name: &str) -> ActionCall {
    call(&format!("set_group_name{suffix}"), json!({ "group_id": GROUP, "group_name": name }))
}

#[tokio::test(start_paused = true)]
async fn rate_limited_actions_are_answered_at_once_and_done_in_order_with_a_pause() {
    let (sandbox, mut news, _folder) = logged_in().await;
    tokio::spawn(async move { while news.recv().await.is_some() {} });
    let (actions, queue) = open(Arc::new(sandbox));
    for name in ["1", "2", "3"] {
        assert_eq!(actions.call(renamed("_rate_limited", name)).await, Answer::Accepted);
    }
    assert_ne!(group_name(&actions).await, "1", "the queue does not run yet");
    tokio::spawn(queue.run(CancellationToken::new()));
    for name in ["1", "2", "3"] {
        sleep(PAUSE / 10).await;
        assert_eq!(group_name(&actions).await, name);
        sleep(PAUSE).await;
    }
}

#[tokio::test(start_paused = true)]
async fn actions_that_are_not_waited_for_are_done_at_once_and_bounded() {
    let (sandbox, mut news, _folder) = logged_in().await;
    tokio::spawn(async move { while news.recv().await.is_some() {} });
    let (actions, queue) = open(Arc::new(sandbox));
    for suffix in ["_async", "_rate_limited"] {
        for _ in 0..MAX_QUEUED {
            assert_eq!(actions.call(renamed(suffix, "x")).await, Answer::Accepted);
        }
        let refused = actions.call(renamed(suffix, "y")).await;
        assert!(
            matches!(&refused, Answer::Failed { code, .. } if *code == Refusal::Busy.code()),
            "{refused:?}"
        );
    }
    tokio::spawn(queue.run(CancellationToken::new()));
    sleep(PAUSE / 10).await;
    assert_eq!(actions.call(renamed("_async", "z")).await, Answer::Accepted);
    sleep(PAUSE / 10).await;
    assert_eq!(group_name(&actions).await, "z", "those with a pause hold up no other");
}
