"""The suite's agents by name: a line each, imported when asked for.

What differs from its class's numbers under a name is in rlsuite/conf/agent/<name>.yaml, where there is one.
"""

from __future__ import annotations

from rlsuite.agent_registry import register

AGENTS = {
    "ace": "agents.ace:ACE",
    "ddpg": "agents.actor_critic:ActorCritic",
    "dqn": "agents.dqn:DQN",
    "flash_sac": "agents.actor_critic:ActorCritic",
    "her": "agents.actor_critic:ActorCritic",
    "painter": "agents.painter.agent:Painter",
    "painter_ddpg": "agents.painter.model_free:ModelFreePainter",
    "pombu": "agents.pombu.agent:POMBU",
    "ppo": "agents.ppo:PPO",
    "sac": "agents.actor_critic:ActorCritic",
    "scribe": "agents.stroke_recognizer.agent:StrokeRecognizer",
    "scribe_ddpg": "agents.stroke_recognizer.agent:ModelFreeStrokeRecognizer",
    "sher": "agents.sher:SHER",
    "td3": "agents.actor_critic:ActorCritic",
    "trpo": "agents.trpo:TRPO",
}

# What runs recorded beside these names before agents were known by name alone.
_FORMER_TARGETS = (
    "agents.ace.ACE",
    "agents.ddpg.DDPG",
    "agents.painter.agent.Painter",
    "agents.painter.model_free.ModelFreePainter",
    "agents.pombu.agent.POMBU",
    "agents.ppo.PPO",
    "agents.sher.SHER",
)

register(AGENTS, _FORMER_TARGETS)
