"""Edits of a model's forward pass, each an `Edit` (`attnlab.tape`) to pass in `apply(..., edits=(...,))`.

They are what the papers call hooks: take a part out, say where a head looks, add to its logits, mix its output with
another. All work at inference and inside the training step, under jit, vmap and grad; their numbers are arrays, so
changing them does not retrace, and an edit never outlives the call it is passed to.

Example:
  logits, _ = model.apply(params, tokens, edits=(remove_mlp(0), force_attention(0, SinkOrPrevious(triggers=(1, 5)))))
  logits, _ = model.apply(params, tokens, edits=(ablate_heads(1, (0, 2), num_heads=4, kind="uniform"),))
"""

from attnlab.edits.algebra import column_weights as column_weights
from attnlab.edits.algebra import logit_bias as logit_bias
from attnlab.edits.algebra import output_mix as output_mix
from attnlab.edits.algebra import pattern_add as pattern_add
from attnlab.edits.algebra import pattern_mix as pattern_mix
from attnlab.edits.algebra import rows as rows
from attnlab.edits.algebra import stream_mix as stream_mix
from attnlab.edits.calibrate import VarRule as VarRule
from attnlab.edits.calibrate import act as act
from attnlab.edits.calibrate import act_bias as act_bias
from attnlab.edits.calibrate import flagged as flagged
from attnlab.edits.calibrate import looks_at_image as looks_at_image
from attnlab.edits.calibrate import massive_tokens as massive_tokens
from attnlab.edits.calibrate import sink_dimensions as sink_dimensions
from attnlab.edits.calibrate import var as var
from attnlab.edits.calibrate import var_bias as var_bias
from attnlab.edits.calibrate import var_weights as var_weights
from attnlab.edits.columns import boost as boost
from attnlab.edits.columns import columns as columns
from attnlab.edits.columns import follow_gaze as follow_gaze
from attnlab.edits.columns import restrict as restrict
from attnlab.edits.columns import steer_to as steer_to
from attnlab.edits.columns import tune_first as tune_first
from attnlab.edits.kinds import KINDS as KINDS
from attnlab.edits.kinds import Kind as Kind
from attnlab.edits.kinds import ablate as ablate
from attnlab.edits.kinds import ablate_heads as ablate_heads
from attnlab.edits.kinds import mean_outputs as mean_outputs
from attnlab.edits.outputs import guided as guided
from attnlab.edits.outputs import inject as inject
from attnlab.edits.outputs import reinforce as reinforce
from attnlab.edits.outputs import set_rows as set_rows
from attnlab.edits.outputs import soften as soften
from attnlab.edits.outputs import steer as steer
from attnlab.edits.parts import remove_attention as remove_attention
from attnlab.edits.parts import remove_block as remove_block
from attnlab.edits.parts import remove_mlp as remove_mlp
from attnlab.edits.parts import zero_attention_at as zero_attention_at
from attnlab.edits.parts import zero_heads as zero_heads
from attnlab.edits.parts import zero_mlp_at as zero_mlp_at
from attnlab.edits.parts import zero_value_at as zero_value_at
from attnlab.edits.prompts import nearest as nearest
from attnlab.edits.prompts import prompts as prompts
from attnlab.edits.prompts import pull as pull
from attnlab.edits.prompts import roles as roles
from attnlab.edits.rules import AttentionRule as AttentionRule
from attnlab.edits.rules import Identity as Identity
from attnlab.edits.rules import SinkOrPrevious as SinkOrPrevious
from attnlab.edits.rules import force_attention as force_attention
from attnlab.edits.rules import identity_attention as identity_attention
