"""Acting: models, chat, engines, policies, rollouts, the run store, evaluation."""
