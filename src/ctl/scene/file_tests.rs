//! Tests of files of scenes.

use super::*;

#[test]
fn scenes_are_read_with_what_steps_leave_out() {
    let text = r#"
account = "bot"
[[scene]]
name = "greets"
as = 10001
in = "a group"
steps = [
  { say = "ping" },
  { expect = "pong" },
  { say = [{ type = "at", data = { qq = "all" } }], image = "a.png" },
  { recall = true },
  { expect = { nothing = 1 }, to = "10002" },
]
[[scene]]
name = "befriends"
[[scene.steps]]
request_friend = "let me in"
as = 5
name = "E"
[[scene.steps]]
expect = { action = "set_friend_add_request" }
within = 2
[[scene.steps]]
poke = true
as = 6
"#;
    let Scenes { account, scenes } = Scenes::parse(text).unwrap();
    assert_eq!((account.as_deref(), scenes.len()), (Some("bot"), 2));
    let group = Who::Name("a group".to_owned());
    let text = vec![json!({ "type": "text", "data": { "text": "ping" } })];
    let say = What::Say { by: Who::Uid(10001), group: Some(group.clone()), message: text, image: None };
    let first = &scenes[0].steps;
    assert_eq!((first[0].line, &first[0].what), (8, &say));
    let What::Expect { place, within, .. } = &first[1].what else { panic!() };
    assert_eq!((place, within), (&Place::Group(group), &None));
    let What::Expect { expected, place, .. } = &first[4].what else { panic!() };
    assert_eq!(*expected, Expected::Nothing(Duration::from_secs(1)));
    assert_eq!(*place, Place::Person(Who::Name("10002".to_owned())));
    let second = &scenes[1].steps;
    let What::Ask { kind: "friend", name, comment, .. } = &second[0].what else { panic!() };
    assert_eq!((second[0].line, name.as_str(), comment.as_str()), (16, "E", "let me in"));
    let What::Expect { within, .. } = &second[1].what else { panic!() };
    assert_eq!(*within, Some(Duration::from_secs(2)));
    assert_eq!(second[2].what, What::Poke { by: Who::Uid(6), group: None, target: None });
}

#[test]
fn mistakes_are_told_with_their_line() {
    let said = |text: &str| Scenes::parse(text).unwrap_err().to_string();
    let step = |step: &str| said(&format!("[[scene]]\nname = \"a\"\nas = 1\nsteps = [\n  {step},\n]\n"));
    assert_eq!(said(""), "there is no [[scene]] in it");
    assert!(said("[[scene]]\nname = \"a\"\nsteps = [").starts_with("line 3: "));
    assert!(said("[[scene]]\nname = \"a\"\nstep = []").starts_with("line 3: unknown field `step`"));
    assert_eq!(said("[[scene]]\nname = \"a\"\nsteps = []"), "line 1: a scene has 1 to 1000 steps");
    let one = "[[scene]]\nname = \"a\"\nas = 1\nsteps = [{ say = \"x\" }]\n";
    assert_eq!(said(&format!("{one}{one}")), "line 5: there is another scene \"a\"");
    let nobody = "[[scene]]\nname = \"a\"\nsteps = [\n{ say = \"x\" }]\n";
    assert_eq!(said(nobody), "line 4: as is missing: who does it");
    for (wrong, why) in [
        ("{ sya = 1 }", "line 5: unknown field `sya`"),
        ("{ as = 2 }", "line 5: a step has one of say"),
        ("{ say = \"x\", poke = true }", "line 5: a step has one of say"),
        ("{ say = [1] }", "line 5: a segment of say is"),
        ("{ say = \"\" }", "line 5: say is a text"),
        ("{ say = \"x\", within = 2 }", "line 5: within is of use with expect only"),
        ("{ expect = { contain = \"x\" } }", "line 5: expect: unknown field `contain`"),
        ("{ expect = {} }", "line 5: expect has one of"),
        ("{ expect = { equals = \"x\", nothing = 1 } }", "line 5: expect is about"),
        ("{ expect = \"x\", within = -1 }", "line 5: a time is more than 0"),
        ("{ expect = \"x\", in = 1, to = 2 }", "line 5: a message is in a group or to"),
        ("{ recall = true }", "line 5: nothing was said"),
        ("{ invite = \"x\" }", "line 5: in is missing"),
        ("{ say = \"x\", as = true }", "line 5: expected a uid or a name"),
    ] {
        let told = step(wrong);
        assert!(told.starts_with(why) && !told.contains('\n'), "{wrong}: {told}");
    }
}
