//! What the tool prints when it succeeds.

use support::{Mistakes, tool};
use tokio::process::Command;

#[tokio::test]
async fn a_change_of_permissions_says_what_changed() {
    let mistakes = Mistakes::start().await;
    assert!(mistakes.run(&[], "repository create hello").await.status.success());
    let steps = [
        ("revoke", "account 111111111111 had no permission to read 'hello'\n", false),
        ("grant", "account 111111111111 may now read 'hello'\n", true),
        ("grant", "account 111111111111 could already read 'hello'\n", false),
        ("revoke", "account 111111111111 may no longer read 'hello'\n", true),
    ];
    for format in ["text", "json"] {
        for (command, text, changed) in steps {
            let arguments = format!("--output {format} repository {command} hello 111111111111");
            let output = mistakes.run(&[], &arguments).await;
            let printed = String::from_utf8(output.stdout).unwrap();
            match format {
                "text" => assert_eq!(printed, text),
                _ => {
                    let printed: serde_json::Value = serde_json::from_str(&printed).unwrap();
                    assert_eq!(printed["changed"], changed, "{printed}");
                    let accounts = printed["accounts"].as_array().unwrap().len();
                    assert_eq!(accounts, usize::from(command == "grant"), "{printed}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_version_has_the_programs_name() {
    let output = Command::new(tool()).arg("--version").output().await.unwrap();
    let version = format!("layergate {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), version);
}
