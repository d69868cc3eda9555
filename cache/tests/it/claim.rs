use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use fracture_cache::{Claim, Claimed, Claims};

use super::{digest, new_store};

fn shift(path: &Path, forward: bool) {
    let hour = Duration::from_secs(3600);
    let time = if forward {
        SystemTime::now() + hour
    } else {
        SystemTime::now() - hour
    };
    File::options()
        .append(true)
        .open(path)
        .unwrap()
        .set_times(FileTimes::new().set_modified(time))
        .unwrap();
}

fn mine(claims: &Claims) -> Option<Claim> {
    match claims.try_claim(&digest("action")).unwrap() {
        Claimed::Mine(claim) => Some(claim),
        Claimed::Held { .. } => None,
    }
}

#[test]
fn one_owner_at_a_time() {
    let (_folder, store) = new_store();
    let one = Claims::open(&store, "one", Duration::from_secs(60));
    let two = Claims::open(&store, "two", Duration::from_secs(60));
    let claim = mine(&one).unwrap();
    let held = two.try_claim(&digest("action")).unwrap();
    assert!(
        matches!(&held, Claimed::Held { owner, age } if owner == "one" && *age < Duration::from_secs(30)),
        "{held:?}"
    );
    assert!(matches!(two.try_claim(&digest("another")).unwrap(), Claimed::Mine(_)));
    assert!(claim.renew().unwrap());
    drop(claim);
    assert!(mine(&two).is_some());
    drop((one, two));
    assert_eq!(
        fs::read_dir(store.root().join("claims")).unwrap().count(),
        0,
        "nothing is left behind"
    );
}

#[test]
fn a_stale_claim_is_taken_over_and_its_owner_notices() {
    let (_folder, store) = new_store();
    let one = Claims::open(&store, "one", Duration::from_secs(60));
    let two = Claims::open(&store, "two", Duration::from_secs(60));
    let suspended = mine(&one).unwrap();
    shift(&store.root().join("claims").join(digest::<()>("action").hex()), false);
    let taken = mine(&two).unwrap();
    assert!(!suspended.renew().unwrap());
    drop(suspended);
    assert!(taken.renew().unwrap(), "the old owner leaves the new claim alone");
    assert!(mine(&one).is_none());
}

#[test]
fn a_claim_from_the_future_is_taken_over_when_its_time_stands_still() {
    let (_folder, store) = new_store();
    let one = Claims::open(&store, "one", Duration::from_millis(150));
    let dead = mine(&one).unwrap();
    // Nobody touches it any more.
    drop(one);
    shift(&store.root().join("claims").join(digest::<()>("action").hex()), true);
    let two = Claims::open(&store, "two", Duration::from_millis(150));
    assert!(mine(&two).is_none());
    std::thread::sleep(Duration::from_millis(200));
    assert!(mine(&two).is_some());
    drop(dead);
}

#[test]
fn an_owner_that_lives_keeps_its_claim_for_as_long_as_it_takes() {
    let (_folder, store) = new_store();
    let one = Claims::open(&store, "one", Duration::from_millis(400));
    let two = Claims::open(&store, "two", Duration::from_millis(400));
    let _claim = mine(&one).unwrap();
    for _ in 0..12 {
        std::thread::sleep(Duration::from_millis(100));
        assert!(mine(&two).is_none());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_claim_of_a_dead_process_is_taken_over_at_once() {
    let (_folder, store) = new_store();
    let one = Claims::open(&store, "one", Duration::from_secs(60));
    let two = Claims::open(&store, "two", Duration::from_secs(60));
    let claim = mine(&one).unwrap();
    let path = store.root().join("claims").join(digest::<()>("action").hex());
    let mut child = std::process::Command::new("true").spawn().unwrap();
    child.wait().unwrap();
    let text = fs::read_to_string(&path).unwrap();
    let rest = text.split_once('\n').unwrap().1;
    // Not its process, then not its machine.
    fs::write(&path, format!("{}\nelsewhere\none\n", child.id())).unwrap();
    assert!(mine(&two).is_none());
    fs::write(&path, format!("{}\n{rest}", child.id())).unwrap();
    assert!(mine(&two).is_some());
    drop(claim);
}

#[test]
fn of_many_threads_one_claims_at_a_time() {
    let (_folder, store) = new_store();
    let busy = std::sync::atomic::AtomicU32::new(0);
    let claimed = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                use std::sync::atomic::Ordering::SeqCst;
                let claims = Claims::open(&store, "thread", Duration::from_secs(60));
                for _ in 0..200 {
                    if let Some(claim) = mine(&claims) {
                        assert_eq!(busy.fetch_add(1, SeqCst), 0);
                        claimed.fetch_add(1, SeqCst);
                        busy.fetch_sub(1, SeqCst);
                        drop(claim);
                    }
                }
            });
        }
    });
    assert!(claimed.into_inner() >= 1);
}
