package fsm

// Advance sends the next piece of a resubmit request.
type Advance struct {
	Request uint64 `cbor:"1,keyasint"`
	Rows    int    `cbor:"2,keyasint"` // deliveries to look at
}
