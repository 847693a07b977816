"""No Vela: a stand-in for it that fails in the way that $VELA_STANDIN says."""
