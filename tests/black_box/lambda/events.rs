//! The events in `events/`: each is named by its outcome, and has it.

use support::{Stack, sample, send, source};

#[tokio::test]
async fn every_event_has_the_outcome_that_it_is_named_by() {
    let stack = Stack::start().await;
    let sample = sample();
    let sample = sample.to_str().unwrap();
    stack.json(&["publish", "--create-repository", sample, "hello:1.0"]).await;
    stack.json(&["publish", "--create-repository", sample, "retired:1.0"]).await;
    stack.json(&["image", "delete", "retired:1.0"]).await;

    let mut count = 0;
    for shape in ["rest", "http", "url"] {
        let folder = source("events").join(shape);
        for file in std::fs::read_dir(folder).unwrap() {
            let path = file.unwrap().path();
            let event = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            let answer = send(&stack.handler, &event).await;
            answer.assert_well_formed();
            let outcome = if answer.status == 200 { "OK" } else { answer.error() };
            let name = path.file_stem().unwrap().to_str().unwrap();
            // Before the outcome, the operation, if it is not GetDownloadUrlForLayer.
            let named_by = name.rsplit('.').next().unwrap();
            assert_eq!(outcome, named_by, "{}", path.display());
            count += 1;
        }
    }
    assert_eq!(count, 3 * 14, "each shape has an event for each outcome");
}
