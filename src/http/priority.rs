//! HTTP yields to the pipeline: on a busy computer a page comes later rather than a reading. And what programs ask of the
//! API yields to the board.

/// The niceness of the threads that answer questions. The pipeline, and the health checks, run at 0.
const NICENESS: i32 = 5;
/// That of the threads that read the database for the API.
const NICENESS_OF_THE_API: i32 = 10;

/// Lowers the priority of this thread, and of those that it starts from now on.
pub(super) fn yield_to_the_pipeline() {
    set(NICENESS);
}

/// Lowers it further.
pub(super) fn yield_to_the_board() {
    set(NICENESS_OF_THE_API);
}

fn set(niceness: i32) {
    // Linux takes "this process" for the calling thread (setpriority(2)).
    let _best_effort = rustix::process::setpriority_process(None, niceness);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_yields_and_what_it_starts_but_no_other() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        let (first, second) = std::thread::spawn(move || {
            yield_to_the_pipeline();
            (niceness(), std::thread::spawn(niceness).join().unwrap())
        })
        .join()
        .unwrap();
        assert_eq!((first, second, niceness()), (NICENESS, NICENESS, own));
    }
}
