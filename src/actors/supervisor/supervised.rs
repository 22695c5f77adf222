//! How a child answers its supervisor.

/// Makes an actor with a field `exit_guard` handle [`Heartbeat`](super::Heartbeat) and
/// [`StopChild`](super::StopChild). Its failpoints are `<name>::handle` and `<name>::stop`. To stop, it calls
/// `$stop`, a function of actor and context that finishes its work first; without `$stop` it ends at once.
macro_rules! supervised {
    ($actor:ty, $name:literal) => {
        $crate::actors::supervisor::supervised!($actor, $name, |actor, context| {
            actor.exit_guard.finish();
            context.stop();
        });
    };
    ($actor:ty, $name:literal, $stop:expr) => {
        impl ::actix::Handler<$crate::actors::supervisor::Heartbeat> for $actor {
            type Result = ();

            fn handle(
                &mut self,
                _: $crate::actors::supervisor::Heartbeat,
                context: &mut ::actix::Context<Self>,
            ) {
                if let Err(error) = $crate::actors::failpoint::failpoint(concat!($name, "::handle")) {
                    self.exit_guard.fail(error);
                    ::actix::ActorContext::stop(context);
                }
            }
        }

        impl ::actix::Handler<$crate::actors::supervisor::StopChild> for $actor {
            type Result = ();

            fn handle(
                &mut self,
                _: $crate::actors::supervisor::StopChild,
                context: &mut ::actix::Context<Self>,
            ) {
                if let Err(error) = $crate::actors::failpoint::failpoint(concat!($name, "::stop")) {
                    self.exit_guard.fail(error);
                    return ::actix::ActorContext::stop(context);
                }
                let stop: fn(&mut Self, &mut ::actix::Context<Self>) = $stop;
                stop(self, context);
            }
        }
    };
}

pub(crate) use supervised;
