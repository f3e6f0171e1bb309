"""PLCs: a handshake of bits and registers, over Modbus TCP, OPC UA and S7."""
